"""docker-archives, and what Docker itself saves and builds."""

import functools
from pathlib import Path

from support.formats.row import Row, name_of
from support.formats.sources import context, one, push, saved_pair
from support.formats.workshop import Workshop
from support.skopeo import run, skopeo

ONE = "one image"
SEVERAL = "two images, three names, shared layers"
UNNAMED = "one image without a name"

# skopeo, buildah, podman


def by_skopeo(_: Workshop, directory: Path, key: str, *flags: str) -> Path:
    out = directory / "out.tar"
    source = one(directory, key, compression="gzip")
    skopeo("copy", *flags, source, f"docker-archive:{out}:{name_of(key)}")
    return out


def by_skopeo_with_names(shop: Workshop, directory: Path, key: str) -> Path:
    return by_skopeo(shop, directory, key, "--additional-tag", f"docker.io/acme/{key}:latest")


def by_skopeo_unnamed(_: Workshop, directory: Path, key: str) -> Path:
    skopeo("copy", one(directory, key), f"docker-archive:{directory / 'out.tar'}")
    return directory / "out.tar"


def by_buildah(shop: Workshop, directory: Path, key: str) -> Path:
    out, name = directory / "out.tar", name_of(key)
    shop.build(context(directory, key), "--tag", name)
    shop.buildah("push", name, f"docker-archive:{out}:{name}")
    return out


def by_podman(shop: Workshop, directory: Path, key: str) -> Path:
    out = directory / "out.tar"
    shop.podman("load", "--input", saved_pair(directory, key))
    shop.podman("save", "--format=docker-archive", "--output", out, name_of(key, 2))
    return out


def by_podman_several(shop: Workshop, directory: Path, key: str) -> Path:
    out, names = directory / "out.tar", [name_of(key), f"docker.io/acme/{key}", name_of(key, 2)]
    shop.podman("load", "--input", saved_pair(directory, key))
    shop.podman("save", "--multi-image-archive", "--output", out, *names)
    return out


# crane, whose library ko, kaniko and others write their archives with


def by_crane(shop: Workshop, directory: Path, key: str, *, form: str, count: int = 1) -> Path:
    out = directory / "out.tar"
    crane = shop.program("forky", "crane")
    names = [
        push(shop, one(directory / str(n), f"{key}/{n}", compression="gzip"), f"{key}/{n}")
        for n in range(count)
    ]
    run(crane, "pull", f"--format={form}", *names, out)
    return out


# Docker


def by_docker(
    shop: Workshop, directory: Path, key: str, *, suite: str, store: bool, what: str
) -> Path:
    """Save images that were loaded: one, several, or one by its ID."""
    out = directory / "out.tar"
    docker = shop.docker(suite, containerd_store=store)
    docker("load", "--input", saved_pair(directory, key))
    names = {
        ONE: [name_of(key)],
        SEVERAL: [name_of(key), f"acme/{key}", name_of(key, 2)],
        UNNAMED: [docker("images", "--quiet", name_of(key, 2)).strip()],
    }
    docker("save", "--output", out, *names[what])
    return out


DAEMONS = {
    "20.10": ("docker20", "bookworm", False),
    "26": ("docker26", "trixie", False),
    "26, containerd's store": ("docker26c", "trixie", True),
    "28+": ("docker28", "forky", False),
    "28+, containerd's store": ("docker28c", "forky", True),
}
SAVED = {
    "docker20": (ONE, SEVERAL, UNNAMED),
    "docker26": (ONE, SEVERAL, UNNAMED),
    "docker26c": (SEVERAL,),
    "docker28": (SEVERAL,),
    "docker28c": (SEVERAL,),
}


def _docker_rows() -> list[Row]:
    return [
        Row(
            f"{short}-{number}",
            "docker",
            f"`docker save` (Docker {version})",
            what,
            functools.partial(by_docker, suite=suite, store=store, what=what),
            root=True,
            needs=("containerd", "runc"),
        )
        for version, (short, suite, store) in DAEMONS.items()
        for number, what in enumerate(SAVED[short])
    ]


def _row(key: str, made_by: str, holds: str, make: object, *needs: str, root: bool = False) -> Row:
    return Row(key, "docker", made_by, holds, make, needs, root)  # type: ignore[arg-type]


GZIP = "one image, gzip layers"
LEGACY = "one image, the oldest names of members"
ROWS = [
    *_docker_rows(),
    _row("podman-save", "`podman save`", ONE, by_podman, "podman", root=True),
    _row("podman-save-m", "`podman save -m`", SEVERAL, by_podman_several, "podman", root=True),
    _row("skopeo-docker", "`skopeo copy … docker-archive:`", ONE, by_skopeo),
    _row("skopeo-names", "`skopeo copy … docker-archive:`", "two names", by_skopeo_with_names),
    _row("skopeo-unnamed", "`skopeo copy … docker-archive:`", UNNAMED, by_skopeo_unnamed),
    _row(
        "buildah-docker", "`buildah push … docker-archive:`", ONE, by_buildah, "buildah", root=True
    ),
    _row(
        "crane-tarball",
        "`crane pull`",
        GZIP,
        functools.partial(by_crane, form="tarball"),
        "docker-registry",
    ),
    _row(
        "crane-several",
        "`crane pull`",
        "two images, gzip layers",
        functools.partial(by_crane, form="tarball", count=2),
        "docker-registry",
    ),
    _row(
        "crane-legacy",
        "`crane pull --format=legacy`",
        LEGACY,
        functools.partial(by_crane, form="legacy"),
        "docker-registry",
    ),
]
