"""Archives whose records of names differ, with several tables, or of several tars."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME
from airside.archive.formats.oci_layout import blob_member
from airside.archive.writer.member import Member
from support.formats.contents import Contents, Tree, read_with_loose
from support.formats.row import Read, Row, name_of
from support.formats.workshop import Workshop
from support.images import TestBlob, TestImage, TestIndex, compact, random_image, random_index
from support.makers import cosign_signature, docker_25_members, file, layout_members, write_members
from support.skopeo import run

Blobs = tuple[TestBlob, ...]
"""All blobs below a root, which is the first."""


def contents(names: Mapping[str, Blobs], *unnamed: Blobs) -> Contents:
    trees = {
        str(blobs[0].digest): Tree({str(b.digest): b.size_bytes for b in blobs}, frozenset())
        for blobs in (*names.values(), *unnamed)
    }
    roots = {name: str(blobs[0].digest) for name, blobs in names.items()}
    return Contents("oci-layout", roots, frozenset(trees) - set(roots.values()), trees)


def saved(image: TestImage, name: str) -> dict[str, Any]:
    layers = [blob_member(layer.digest) for layer in image.layers]
    return {"Config": blob_member(image.config.digest), "RepoTags": [name], "Layers": layers}


def entry(blob: TestBlob, name: str, ref_name: str, **more: str) -> dict[str, Any]:
    return {**blob.descriptor, "annotations": {IMAGE_NAME: name, REF_NAME: ref_name, **more}}


# Hauler


def _haul(key: str) -> tuple[TestImage, TestIndex, Blobs]:
    image = random_image(key, compression="gzip")
    signature = cosign_signature(image.manifest)
    return image, random_index(f"{key}/index", compression="gzip"), signature[1]


def hauler(key: str) -> list[Member]:
    """`ref.name` without the registry; the signature has the name of its image."""
    image, index, signature = _haul(key)
    entries = [
        entry(blob, name_of(key, n), f"{key}:{n}", kind=f"dev.hauler/{kind}")
        for blob, n, kind in (
            (image.manifest, 1, "image"),
            (index.index, 2, "imageIndex"),
            (signature[0], 1, "sigs"),
        )
    ]
    rows = [saved(image, name_of(key)), *(saved(each, name_of(key, 2)) for each in index.images)]
    blobs = [*image.blobs, *index.blobs, *signature]
    return [*layout_members(entries, blobs), file("manifest.json", compact(rows))]


def hauler_contents(_: Path, key: str) -> Contents:
    image, index, signature = _haul(key)
    return contents({name_of(key): image.blobs, name_of(key, 2): index.blobs}, signature)


# regctl


def regctl_digest(key: str) -> list[Member]:
    """The tag of `manifest.json` is made up."""
    image = random_image(key, compression="gzip")
    repository = name_of(key).rpartition(":")[0]
    roots = [entry(image.manifest, f"{repository}@{image.digest}", "")]
    made_up = file("manifest.json", compact([saved(image, f"{repository}:latest")]))
    return [*layout_members(roots, image.blobs), made_up]


def regctl_layout(key: str) -> list[Member]:
    image = random_image(key, compression="gzip")
    roots = [entry(image.manifest, f"ocidir://{key}:3.8", "3.8")]
    named = file("manifest.json", compact([saved(image, f"localhost/{key}:3.8")]))
    return [*layout_members(roots, image.blobs), named]


def regctl_digest_contents(_: Path, key: str) -> Contents:
    return contents({}, random_image(key, compression="gzip").blobs)


def regctl_layout_contents(_: Path, key: str) -> Contents:
    return contents({f"localhost/{key}:3.8": random_image(key, compression="gzip").blobs})


# Docker 25.0.2 and later


def docker_left_out(key: str) -> list[Member]:
    return docker_25_members({(name_of(key),): random_image(key), (): random_image(f"{key}/2")})


# Several tars


def _two(key: str) -> dict[str, TestImage]:
    return {name_of(key, n): random_image(f"{key}/{n}") for n in (1, 2)}


def _parts(directory: Path, key: str) -> list[Path]:
    made = []
    for number, (name, image) in enumerate(_two(key).items()):
        made.append(directory / f"{number}.tar")
        roots = [entry(image.manifest, name, name.rpartition(":")[2])]
        write_members(made[-1], layout_members(roots, image.blobs))
    return made


def joined(_: Workshop, directory: Path, key: str) -> Path:
    out = directory / "out.tar"
    out.write_bytes(b"".join(part.read_bytes() for part in _parts(directory, key)))
    return out


def joined_members(_: Workshop, directory: Path, key: str) -> Path:
    out = directory / "out.tar.gz"
    out.write_bytes(b"".join(gzip.compress(part.read_bytes()) for part in _parts(directory, key)))
    return out


def concatenated(_: Workshop, directory: Path, key: str) -> Path:
    first, second = _parts(directory, key)
    run("tar", "-Af", first, second)
    return first


def two_contents(_: Path, key: str) -> Contents:
    return contents({name: image.blobs for name, image in _two(key).items()})


def _row(key: str, made_by: str, holds: str, make: Any, read: Read, **more: Any) -> Row:
    table = more.pop("table", "oci")
    return Row(key, table, made_by, holds, make, read=read, containerd=False, **more)


def _of(members: Any) -> Any:
    def make(_: Workshop, directory: Path, key: str) -> Path:
        write_members(directory / "out.tar", members(key))
        return directory / "out.tar"

    return make


TWO = "two OCI layouts"
ROWS = [
    _row(
        "hauler",
        "builder: `hauler store save`",
        "an image, its signature with the same name, an index of three platforms",
        _of(hauler),
        hauler_contents,
        noted="is no image that can be run",
    ),
    _row(
        "regctl-digest",
        "builder: `regctl image export REPOSITORY@DIGEST`",
        "one image, a made-up tag in `manifest.json`",
        _of(regctl_digest),
        regctl_digest_contents,
    ),
    _row(
        "regctl-layout",
        "builder: `regctl image export ocidir://…`",
        "one image, named in `manifest.json`",
        _of(regctl_layout),
        regctl_layout_contents,
    ),
    _row(
        "docker-left-out",
        "builder: `docker save` (Docker 25.0.2 and later)",
        "two images, of which the index lists the one with a name",
        _of(docker_left_out),
        read_with_loose,
        table="docker",
        noted="manifest.json has 1 more",
    ),
    _row(
        "joined",
        "`cat`",
        f"{TWO}, one behind the other",
        joined,
        two_contents,
        table="features",
        noted="2 tar archives are joined in the file",
    ),
    _row(
        "joined-members",
        "`gzip`, `cat`",
        f"{TWO}, each compressed",
        joined_members,
        two_contents,
        table="features",
        compression="gzip",
        suffix=".tar.gz",
        noted="2 tar archives are joined in the file",
    ),
    _row(
        "concatenated",
        "`tar -A`",
        f"{TWO}, members of one tar",
        concatenated,
        two_contents,
        table="features",
        noted="an earlier table of the tar lists 1 images",
    ),
]
