"""Layouts that are dropped as the directories that the tools make, not packed."""

import functools
from pathlib import Path
from typing import Any

from support.formats import feature_rows, layout_rows
from support.formats.row import Make, Row, name_of
from support.formats.sources import PLATFORMS, context, longest_names, one, several_platforms
from support.formats.workshop import Workshop
from support.images import oci_layout, random_index
from support.skopeo import skopeo


def by_buildx(shop: Workshop, directory: Path, key: str) -> Path:
    made = directory / "layout"
    docker = shop.docker("trixie", containerd_store=True)
    where = f"--output=type=oci,tar=false,dest={made},name={name_of(key)}"
    words = ["--quiet", "--provenance=mode=max", f"--platform={','.join(PLATFORMS)}"]
    docker.buildx("build", where, *words, context(directory, key))
    return made


def by_skopeo_dir(_: Workshop, directory: Path, key: str) -> Path:
    skopeo("copy", one(directory, key), f"dir:{directory / 'copied'}")
    return directory / "copied"


def by_skopeo_all(_: Workshop, directory: Path, key: str) -> Path:
    source, made = several_platforms(directory, key), directory / "layout"
    skopeo("copy", "--all", "--preserve-digests", source, f"oci:{made}:{name_of(key)}")
    return made


def some_platforms(_: Workshop, directory: Path, key: str) -> Path:
    """With the blobs of one platform, its index byte for byte."""
    index = random_index(key, PLATFORMS, compression="gzip")
    oci_layout(directory / "layout", {name_of(key): index}, sparse=PLATFORMS[1:])
    return directory / "layout"


def linked(shop: Workshop, directory: Path, key: str) -> Path:
    """Blobs that are links to files elsewhere, as Bazel's rules_oci keeps them."""
    made = layout_rows.by_skopeo_directory(shop, directory, key)
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    for blob in (made / "blobs/sha256").iterdir():
        blob.rename(elsewhere / blob.name)
        blob.symlink_to(elsewhere / blob.name)
    return made


def _row(
    key: str, made_by: str, holds: str, make: Make, *needs: str, root: bool = False, **more: Any
) -> Row:
    how = {"compression": "directory", "containerd": False, **more}
    return Row(f"dir-{key}", "directory", made_by, holds, make, needs, root, **how)


ONE, ALL = layout_rows.ONE, layout_rows.ALL
REGISTRY = "docker-registry"
ROWS = [
    _row("skopeo", "`skopeo copy … oci:`", "two images", layout_rows.by_skopeo_directory),
    _row("skopeo-all", "`skopeo copy --all … oci:`", ALL, by_skopeo_all),
    _row(
        "podman",
        "`podman save --format=oci-dir`",
        ONE,
        layout_rows.by_podman_directory,
        "podman",
        root=True,
    ),
    _row(
        "buildah",
        "`buildah push … oci:`",
        ONE,
        functools.partial(layout_rows.by_buildah, form="oci"),
        "buildah",
        root=True,
    ),
    _row(
        "buildx",
        "`docker buildx build --output type=oci,tar=false`",
        layout_rows.PROVEN,
        by_buildx,
        "containerd",
        "runc",
        root=True,
    ),
    _row("umoci", "`umoci`", f"{ONE}, its name only a tag", layout_rows.by_umoci, "umoci"),
    _row("crane", "`crane pull --format=oci`", f"{ALL}, no name", layout_rows.by_crane, REGISTRY),
    _row(
        "oras",
        "`oras cp --to-oci-layout`",
        f"{ALL}, their name only a tag",
        layout_rows.by_oras,
        REGISTRY,
    ),
    _row("cosign", "`cosign save`", "an image and its signature", feature_rows.cosign, REGISTRY),
    _row("sparse", "builder", f"one of {ALL}", some_platforms, skopeo=False),
    _row(
        "sha512",
        "builder",
        "blobs by their sha512",
        lambda _, directory, key: longest_names(directory, key),
        skopeo=False,
    ),
    _row("linked", "builder: Bazel's rules_oci, `oci_image`", "blobs that are links", linked),
    _row(
        "docker",
        "GNU tar",
        "a docker-archive, unpacked",
        lambda _, directory, key: feature_rows.unpacked(directory, key),
    ),
    _row("dir", "`skopeo copy … dir:`", ONE, by_skopeo_dir, refused="`dir:` transport"),
]
