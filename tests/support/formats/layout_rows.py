"""OCI layouts: who writes them, and what they may hold."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.containerd import Containerd
from support.formats.row import Make, Row, name_of
from support.formats.sources import (
    PLATFORMS,
    context,
    one,
    pair,
    push,
    several_platforms,
    tarred,
)
from support.formats.workshop import Workshop
from support.images import oci_archive
from support.skopeo import run, skopeo

ONE = "one image"
ALL = "three platforms"


# skopeo


def by_skopeo(_: Workshop, directory: Path, key: str, *, compression: str = "gzip") -> Path:
    source, out = one(directory, key, compression=compression), directory / "out.tar"
    skopeo("copy", "--preserve-digests", source, f"oci-archive:{out}:{name_of(key)}")
    return out


def by_skopeo_all(_: Workshop, directory: Path, key: str) -> Path:
    source, out = several_platforms(directory, key), directory / "out.tar"
    skopeo("copy", "--all", "--preserve-digests", source, f"oci-archive:{out}:{name_of(key)}")
    return out


def by_skopeo_directory(_: Workshop, directory: Path, key: str) -> Path:
    """Two images into one layout."""
    for number in (1, 2):
        image = one(directory / str(number), f"{key}/{number}", compression="gzip")
        skopeo("copy", image, f"oci:{directory / 'layout'}:{name_of(key, number)}")
    return directory / "layout"


# podman, buildah


def by_podman(shop: Workshop, directory: Path, key: str) -> Path:
    shop.podman("load", "--input", by_skopeo(shop, directory, key))
    out = directory / "saved.tar"
    shop.podman("save", "--format=oci-archive", "--output", out, name_of(key))
    return out


def by_podman_directory(shop: Workshop, directory: Path, key: str) -> Path:
    shop.podman("load", "--input", by_skopeo(shop, directory, key))
    out = directory / "saved"
    shop.podman("save", "--format=oci-dir", "--output", out, name_of(key))
    return out


def by_buildah(shop: Workshop, directory: Path, key: str, *, form: str = "oci-archive") -> Path:
    out, name = directory / "out", name_of(key)
    shop.build(context(directory, key), "--tag", name)
    shop.buildah("push", name, f"{form}:{out}:{name}")
    return out


def by_buildah_all(shop: Workshop, directory: Path, key: str) -> Path:
    out, name = directory / "out.tar", name_of(key)
    platforms = f"--platform={','.join(PLATFORMS)}"
    shop.build(context(directory, key), platforms, "--manifest", name)
    shop.buildah("manifest", "push", "--all", name, f"oci-archive:{out}:{name}")
    return out


# BuildKit


def by_buildx(output: str, *flags: str) -> Make:
    def make(shop: Workshop, directory: Path, key: str) -> Path:
        out = directory / "out"
        docker = shop.docker("trixie", containerd_store=True)
        where = f"--output={output},dest={out},name={name_of(key)}"
        docker.buildx("build", "--quiet", where, *flags, context(directory, key))
        return out

    return make


def saved_build(shop: Workshop, directory: Path, key: str) -> Path:
    """`docker save` of what `docker build` made for several platforms, with attestations."""
    out = directory / "out.tar"
    docker = shop.docker("trixie", containerd_store=True)
    flags = ["--provenance=mode=max", f"--platform={','.join(PLATFORMS)}"]
    docker.buildx("build", "--quiet", *flags, "--tag", name_of(key), context(directory, key))
    docker("save", "--output", out, name_of(key))
    return out


def saved_platform(shop: Workshop, directory: Path, key: str) -> Path:
    out = directory / "out.tar"
    docker = shop.docker("forky", containerd_store=True)
    flags = ["--provenance=false", f"--platform={','.join(PLATFORMS)}"]
    docker.buildx("build", "--quiet", *flags, "--tag", name_of(key), context(directory, key))
    docker("save", "--platform=linux/arm64", "--output", out, name_of(key))
    return out


# containerd


def by_ctr(*flags: str, suite: str = "") -> Make:
    """What `ctr images export` makes of an image of several platforms."""

    def make(shop: Workshop, directory: Path, key: str) -> Path:
        source = by_skopeo_all(shop, directory, key)
        return _exported(
            shop.containerd_of(suite), source, directory / "out", key, flags, [name_of(key)]
        )

    return make


def by_ctr_several(shop: Workshop, directory: Path, key: str) -> Path:
    source = directory / "pair.tar"
    oci_archive(source, pair(key))
    names = [name_of(key), f"docker.io/acme/{key}:latest", name_of(key, 2)]
    return _exported(shop.containerd, source, directory / "out", key, (), names)


def _exported(
    made: Containerd, source: Path, out: Path, key: str, flags: Sequence[str], names: Sequence[str]
) -> Path:
    """Imported into a namespace of its own, and exported again as users do."""
    for words in (
        ["import", "--all-platforms", "--no-unpack", *made.local, source],
        ["export", *flags, out, *names],
    ):
        made.did("images", *words, namespace=f"export-{key}")
    return out


# umoci, crane, oras


def by_umoci(_: Workshop, directory: Path, key: str) -> Path:
    made = directory / "layout"
    image = f"{made}:{key}"
    run("umoci", "init", "--layout", made)
    run("umoci", "new", "--image", image)
    bundle = directory / "bundle"
    run("umoci", "unpack", "--rootless", "--image", image, bundle)
    (bundle / "rootfs/data").write_text(key * 1000)
    run("umoci", "repack", "--image", image, bundle)
    run("umoci", "config", "--image", image, "--config.cmd=/bin/true", f"--author={key}")
    run("umoci", "gc", "--layout", made)
    return made


def by_crane(shop: Workshop, directory: Path, key: str) -> Path:
    name = push(shop, several_platforms(directory, key), key)
    run(shop.program("forky", "crane"), "pull", "--format=oci", name, directory / "layout")
    return directory / "layout"


def by_oras(shop: Workshop, directory: Path, key: str) -> Path:
    name = push(shop, several_platforms(directory, key), key)
    copy = ["cp", "--recursive", "--from-plain-http", "--to-oci-layout"]
    run(shop.program("trixie", "oras"), *copy, name, f"{directory / 'layout'}:{key}")
    return directory / "layout"


def _row(
    key: str, made_by: str, holds: str, make: Make, *needs: str, root: bool = False, **more: Any
) -> Row:
    return Row(key, "oci", made_by, holds, make, needs, root, **more)


def _built(key: str, made_by: str, holds: str, make: Make, **more: Any) -> Row:
    return _row(key, made_by, holds, make, "containerd", "runc", root=True, **more)


def _ctr_rows() -> list[Row]:
    """Of the installed containerd (1.6 on Debian 12), and of later ones."""
    row = functools.partial(_row, root=True)
    needs = ("containerd", "ctr")
    whole, plain = "--all-platforms", "--skip-manifest-json"
    found = [
        row("ctr-several", f"{EXPORT}`", "two images, three names", by_ctr_several, *needs),
        row("ctr-plain", f"{EXPORT} {whole} {plain}`", ALL, by_ctr(whole, plain), *needs),
    ]
    for version, suite in {
        "": "",
        " (containerd 1.7)": "trixie",
        " (containerd 2.1+, `--local`)": "forky",
    }.items():
        # without it, the export of 2.1 at times ends early, and with exit status 0
        local = ["--local"] if suite == "forky" else []
        one, every = by_ctr(*local, suite=suite), by_ctr(*local, whole, suite=suite)
        key = f"ctr-{suite or 'installed'}"
        # its own importer asks for all platforms
        absent = {"containerd": False, "skopeo": False}
        found += [
            row(f"{key}-all", f"{EXPORT} {whole}`{version}", f"{ALL}{BESIDE}", every, *needs),
            row(
                f"{key}-one", f"{EXPORT}`{version}", f"one of {ALL}{BESIDE}", one, *needs, **absent
            ),
        ]
    return found


EXPORT = "`ctr images export"
BESIDE = " and a `manifest.json`"
BUILD = "`docker buildx build --output "
NO_PROOF = "--provenance=false"
EVERY = f"--platform={','.join(PLATFORMS)}"
PROVEN = "three platforms with attestations"
ROWS = [
    _row("skopeo-oci", "`skopeo copy … oci-archive:`", ONE, by_skopeo),
    _row(
        "skopeo-zstd",
        "`skopeo copy … oci-archive:`",
        "one image, zstd layers",
        functools.partial(by_skopeo, compression="zstd"),
    ),
    _row("skopeo-all", "`skopeo copy --all … oci-archive:`", ALL, by_skopeo_all),
    _row("skopeo-layout", "`skopeo copy … oci:`, `tar`", "two images", tarred(by_skopeo_directory)),
    _row("podman-oci", "`podman save --format=oci-archive`", ONE, by_podman, "podman", root=True),
    _row("buildah-oci", "`buildah push … oci-archive:`", ONE, by_buildah, "buildah", root=True),
    _row(
        "buildah-all",
        "`buildah manifest push --all … oci-archive:`",
        ALL,
        by_buildah_all,
        "buildah",
        root=True,
    ),
    _built("buildx-oci", BUILD + "type=oci`", ONE, by_buildx("type=oci", NO_PROOF)),
    _built(
        "buildx-all",
        BUILD + "type=oci`",
        PROVEN,
        by_buildx("type=oci", EVERY, "--provenance=mode=max"),
    ),
    _built(
        "buildx-zstd",
        BUILD + "type=oci,compression=zstd`",
        "one image, zstd layers",
        by_buildx("type=oci,compression=zstd,force-compression=true", NO_PROOF),
    ),
    _built(
        "buildx-estargz",
        BUILD + "type=oci,compression=estargz`",
        "one image, eStargz layers",
        by_buildx("type=oci,compression=estargz,force-compression=true", NO_PROOF),
    ),
    _built(
        "buildx-docker",
        BUILD + "type=docker`",
        "one image and a `manifest.json`",
        by_buildx("type=docker", NO_PROOF),
    ),
    _built(
        "build-save",
        "`docker build`, `docker save` (Docker 26, containerd's store)",
        PROVEN,
        saved_build,
    ),
    _built(
        "save-platform",
        "`docker save --platform` (Docker 28+, containerd's store)",
        "one of three platforms",
        saved_platform,
        noted="published, as it is the only manifest",
    ),
    *_ctr_rows(),
    _row("umoci", "`umoci`, `tar`", "one image, its name only a tag", tarred(by_umoci), "umoci"),
    _row(
        "crane-oci",
        "`crane pull --format=oci`, `tar`",
        ALL + ", no name",
        tarred(by_crane),
        "docker-registry",
    ),
    _row(
        "oras-cp",
        "`oras cp --to-oci-layout`, `tar`",
        ALL + ", their name only a tag",
        tarred(by_oras),
        "docker-registry",
    ),
]
