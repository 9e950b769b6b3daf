"""Archives of tools that no Debian release has, member for member as their sources write them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airside.archive.formats.detect import DISORDERED
from airside.archive.formats.docker_legacy import NOTE
from airside.archive.writer.member import Member
from support.formats.contents import Contents, Tree, read_docker_archive
from support.formats.row import Make, Row, name_of
from support.formats.sources import pair
from support.formats.workshop import Workshop
from support.images import TestImage, image_of, random_image, random_layer, sha256
from support.makers import (
    V1Step,
    docker_1_10_members,
    docker_25_members,
    ggcr_members,
    imgutil_members,
    jib_members,
    layout_members,
    named,
    nix_members,
    rules_docker_members,
    rules_oci_members,
    v1_config,
    v1_manifest,
    v1_members,
    v1_steps,
    windows_members,
    write_members,
)

Members = Callable[[str], list[Member]]
"""All members of an archive whose images are named and seeded by a key."""


def of(members: Members) -> Make:
    def make(_: Workshop, directory: Path, key: str) -> Path:
        write_members(directory / "out.tar", members(key))
        return directory / "out.tar"

    return make


def gzipped(key: str, **more: Any) -> TestImage:
    return random_image(key, media="docker", compression="gzip", **more)


def kaniko(key: str) -> list[Member]:
    return ggcr_members({(name_of(key),): gzipped(key)})


def ko(key: str) -> list[Member]:
    base = gzipped(key)
    other = gzipped(f"{key}/2", base=base.layers, layers=1)
    return ggcr_members({(f"ko.local/{key}:latest", name_of(key)): base, (name_of(key, 2),): other})


def jib(key: str) -> list[Member]:
    layers = [random_layer(f"{key}/{n}", compression="gzip", media="docker") for n in range(2)]
    return jib_members([name_of(key)], image_of([*layers, layers[0]], media="docker"))


def jib_layout(key: str) -> list[Member]:
    """Its blobs, then `oci-layout` and `index.json`; no directories."""
    image = random_image(key, compression="gzip")
    blobs = [*image.layers, image.config, image.manifest]
    found = layout_members([named(image.manifest, name_of(key))], blobs)
    return [*found[1:-1], found[0], found[-1]]


def imgutil(key: str) -> list[Member]:
    return imgutil_members([name_of(key)], random_image(key, media="docker"))


def rules_docker(key: str) -> list[Member]:
    return rules_docker_members(pair(key))


def rules_oci(key: str) -> list[Member]:
    return rules_oci_members([name_of(key)], gzipped(key))


def nix(key: str) -> list[Member]:
    return nix_members([name_of(key)], random_image(key, media="docker"))


def docker_1_10(key: str) -> list[Member]:
    return docker_1_10_members(pair(key))


def docker_25(key: str, *, layers: str) -> list[Member]:
    image = random_image(key, layers=3)
    other = random_image(f"{key}/2", base=image.layers, layers=1)
    names = (name_of(key), f"docker.io/acme/{key}:latest")
    return docker_25_members({names: image, (name_of(key, 2),): other}, layers=layers)


# Docker before 1.10, which has no digests to compare with: what it must be is made here


def _steps(key: str) -> dict[tuple[str, ...], tuple[V1Step, ...]]:
    base = v1_steps(key)
    more = (*base, *v1_steps(f"{key}/2", layers=1))
    return {(name_of(key), f"acme/{key}:latest"): base, (name_of(key, 2),): more}


def docker_1_9(key: str) -> list[Member]:
    return v1_members(_steps(key))


def docker_1_9_contents(_: Path, key: str) -> Contents:
    names, trees = {}, {}
    for given, steps in _steps(key).items():
        manifest, config = v1_manifest(steps), v1_config(steps)
        held = {str(sha256(raw)): len(raw) for raw in (manifest, config, *(s.tar for s in steps))}
        root = str(sha256(manifest))
        trees[root] = Tree(held, frozenset())
        full = ("docker.io/" * name.startswith("acme/") + name for name in given)
        names |= dict.fromkeys(full, root)
    return Contents("docker-archive", names, frozenset(), trees)


# Windows, whose lowest layer is not in the archive


def _windows(key: str) -> tuple[list[Member], bytes, TestImage]:
    image = random_image(key, layers=3, media="docker", platform="windows/amd64")
    return *windows_members([name_of(key)], image), image


def windows(key: str) -> list[Member]:
    return _windows(key)[0]


def windows_contents(_: Path, key: str) -> Contents:
    _, manifest, image = _windows(key)
    base, *others = image.layers
    there = (manifest, image.config.raw, *(layer.tar for layer in others))
    held = {str(sha256(raw)): len(raw) for raw in there}
    absent = frozenset({str(sha256(b"compressed " + base.tar))})
    root = str(sha256(manifest))
    return Contents("docker-archive", {name_of(key): root}, frozenset(), {root: Tree(held, absent)})


def _row(key: str, made_by: str, holds: str, members: Members, **more: Any) -> Row:
    table = more.pop("table", "docker")
    return Row(key, table, f"builder: {made_by}", holds, of(members), **more)


SEVERAL = "two images, three names, shared layers"
ROWS = [
    _row(
        "docker-1.9",
        "`docker save` (Docker 0.6 to 1.9)",
        f"{SEVERAL}, no `manifest.json`",
        docker_1_9,
        read=docker_1_9_contents,
        noted=NOTE,
        containerd=False,
    ),
    _row("docker-1.10", "`docker save` (Docker 1.10)", SEVERAL, docker_1_10),
    _row(
        "docker-windows",
        "`docker save` (Docker on Windows)",
        "an image whose lowest layer is foreign",
        windows,
        read=windows_contents,
        containerd=False,
        skopeo=False,
        noted="not for this node",
    ),
    _row(
        "docker-25.0.0",
        "`docker save` (Docker 25.0.0)",
        f"{SEVERAL} in a wrong order",
        functools.partial(docker_25, layers="shuffled"),
        read=read_docker_archive,
        noted=DISORDERED,
        containerd=False,
    ),
    _row(
        "docker-25",
        "`docker save` (Docker 25.0.1 to 25.0.5)",
        SEVERAL,
        functools.partial(docker_25, layers="right"),
    ),
    _row(
        "kaniko",
        "kaniko `--tar-path`",
        "gzip layers, a config named `sha256:…`",
        kaniko,
    ),
    _row("ko", "`ko build --tarball`", "two images, three names, shared gzip layers", ko),
    _row(
        "jib",
        "Jib's `jib-image.tar`",
        "gzip layers, one of them twice",
        jib,
        noted="the config config.json is not named by its digest: damage to it cannot be seen",
    ),
    _row("imgutil", "buildpacks' imgutil", "layers named from the root, `/sha256:…`", imgutil),
    _row("rules-docker", "Bazel's rules_docker", SEVERAL, rules_docker),
    _row(
        "rules-oci", "Bazel's rules_oci, `oci_load`", "gzip layers as `blobs/sha256/…`", rules_oci
    ),
    _row("nix", "nixpkgs' dockerTools", "one image", nix),
    _row("jib-oci", "Jib's `jib-image.tar`, format OCI", "one image", jib_layout, table="oci"),
]
