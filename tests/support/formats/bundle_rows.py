"""Layouts that lie one level down in a tar, and archives in parts."""

import hashlib
import json
from pathlib import Path
from typing import Any

from airside.archive.writer.member import Member
from support.formats.compression_rows import through
from support.formats.contents import read_below, read_contents
from support.formats.maker_rows import of
from support.formats.row import Cut, Make, Row, name_of
from support.formats.sources import one, packed
from support.formats.workshop import Workshop
from support.images import TestImage, compact, random_image
from support.makers import file, layout_members, named
from support.skopeo import run

ZARF = {"zarf.yaml": "kind: ZarfPackageConfig\n", "checksums.txt": "", "components/app.tar": ""}
CNAB = {"bundle.json": "{}", "artifacts/README": ""}


def packed_below(folder: str, others: dict[str, str], program: str = "tar -c .") -> Make:
    """Pack a layout into `folder` of a tar that has these other files."""

    def make(_: Workshop, directory: Path, key: str) -> Path:
        one(directory, key, compression="gzip")
        bundle = directory / "bundle"
        (bundle / folder).parent.mkdir(parents=True)
        (directory / "source").rename(bundle / folder)
        for name, text in others.items():
            (bundle / name).parent.mkdir(parents=True, exist_ok=True)
            (bundle / name).write_text(text)
        run("sh", "-ec", f"cd {bundle}; {program} >../out.tar")
        return directory / "out.tar"

    return make


def storage(_: Workshop, directory: Path, key: str) -> Path:
    """What the registry of the CNCF keeps below its `rootdirectory`."""
    blob = directory / "root/docker/registry/v2/blobs/sha256/aa" / ("a" * 64)
    blob.mkdir(parents=True)
    (blob / "data").write_text(key)
    run("tar", "-C", directory / "root", "-cf", directory / "out.tar", ".")
    return directory / "out.tar"


def _imgpkg_entry(image: TestImage, name: str) -> dict[str, Any]:
    manifest, config = image.manifest, image.config
    layers = [
        {
            "MediaType": layer.media_type,
            "Digest": str(layer.digest),
            "DiffID": str(layer.digest),
            "Size": layer.size_bytes,
        }
        for layer in image.layers
    ]
    described = {
        "Refs": [f"{name}@{manifest.digest}"],
        "Layers": layers,
        "Config": {"Digest": str(config.digest), "Raw": config.raw.decode()},
        "Manifest": {
            "MediaType": manifest.media_type,
            "Digest": str(manifest.digest),
            "Raw": manifest.raw.decode(),
        },
        "Tag": "1",
        "OrigRef": name,
        "Labels": {},
    }
    return {"ImageIndex": None, "Image": described}


def imgpkg(key: str) -> list[Member]:
    """Documents are texts in its `manifest.json`; only layers are members of their own."""
    image = random_image(key, compression="gzip")
    layers = [file(f"sha256-{each.digest.hex}.tar.gz", each.raw) for each in image.layers]
    return [file("manifest.json", compact([_imgpkg_entry(image, name_of(key))])), *layers]


def imgpkg_layout(key: str) -> list[Member]:
    """What go-containerregistry's `layout` writes, which knows no names."""
    image = random_image(key, media="docker", compression="gzip")
    return layout_members([named(image.manifest)], [*image.layers, image.config, image.manifest])


# Parts


def parts(*endings: str) -> Cut:
    def cut(data: bytes) -> dict[str, bytes]:
        size = -(-len(data) // len(endings))
        return {end: data[n * size : (n + 1) * size] for n, end in enumerate(endings)}

    return cut


def zarf_parts(data: bytes) -> dict[str, bytes]:
    """Behind one that only says what follows."""
    about = {"sha256Sum": hashlib.sha256(data).hexdigest(), "bytes": len(data), "count": 3}
    ends = [f".tar.zst.part{number:03}" for number in range(4)]
    return {ends[0]: json.dumps(about).encode(), **parts(*ends[1:])(data)}


def plain(_: Workshop, directory: Path, key: str) -> Path:
    one(directory, key)
    return packed(directory / "source")


def _in_parts(key: str, made_by: str, cut: Cut, make: Make = plain, **more: Any) -> Row:
    about = {"read": read_contents, "noted": "read from 3 parts", **more}
    return Row(key, "bundle", made_by, "one image in three parts", make, cut=cut, **about)


def _row(key: str, made_by: str, holds: str, folder: str, make: Make, **more: Any) -> Row:
    noted = more.pop("noted", f"images are in the directory '{folder}'")
    return Row(
        key,
        "bundle",
        made_by,
        holds,
        make,
        noted=noted,
        containerd=False,
        read=read_below(folder),
        **more,
    )


ROWS = [
    _row(
        "zarf",
        "builder: `zarf package create`",
        "one image in `images/`, beside components and SBOMs",
        "images",
        packed_below("images", ZARF),
        noted="this is a Zarf package; its images are in the directory 'images'",
    ),
    _row(
        "cnab",
        "builder: a thick bundle of CNAB (`porter archive`)",
        "one image in `artifacts/layout/`",
        "artifacts/layout",
        packed_below("artifacts/layout", CNAB),
    ),
    _row(
        "parent",
        "`tar -cf FILE DIR`",
        "an OCI layout in a directory",
        "source",
        packed_below("source", {}, "tar -c source"),
    ),
    Row(
        "storage",
        "bundle",
        "builder: the storage of a registry, `tar`",
        "`docker/registry/v2/…`",
        storage,
        refused="start a registry on it",
    ),
    Row(
        "imgpkg",
        "bundle",
        "builder: `imgpkg copy --to-tar`",
        "an image in a form of its own",
        of(imgpkg),
        refused="this is a tar of imgpkg",
    ),
    Row(
        "imgpkg-oci",
        "bundle",
        "builder: `imgpkg push --to-oci-tar`",
        "an OCI layout whose image has no name",
        of(imgpkg_layout),
        ("gzip",),
        compression="gzip",
        pack=through("gzip", "-c"),
        suffix=".tar.gz",
    ),
    _in_parts("split", "`split`", parts(".tar.aa", ".tar.ab", ".tar.ac")),
    _in_parts("split-digits", "`split -d`", parts(".tar.00", ".tar.01", ".tar.02")),
    _in_parts(
        "haul-parts",
        "builder: `hauler store save --chunk-size`",
        parts(*(f".tar.zst.{number:03}" for number in (1, 2, 3))),
        needs=("zstd",),
        compression="zstd",
        pack=through("zstd", "-qc"),
    ),
    _in_parts(
        "zarf-parts",
        "builder: `zarf package create --max-package-size`",
        zarf_parts,
        packed_below("images", ZARF),
        read=read_below("images"),
        noted="this is a Zarf package",
        containerd=False,
        needs=("zstd",),
        compression="zstd",
        pack=through("zstd", "-qc"),
    ),
]
