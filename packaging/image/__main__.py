"""`python -m image --frozen amd64=DIR --frozen arm64=DIR`: writes `airside-image-*.tar` to dist.

Each directory is a frozen build, which has `bin/airside`. One archive for each architecture, and,
with several, one with all of them under the same name. Debian's files come from apt.
"""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozen.architectures import ARCHITECTURES, Architecture
from frozen.debian_runtime import packages, unpack_runtime

from airside import __version__
from airside.archive.writer.image_spec import ImageSpec, IndexSpec
from airside.archive.writer.member import json_bytes
from airside.archive.writer.oci_archive import write_oci_archive
from airside.archive.writer.output_file import open_compressed
from image.layers import PackedLayer, pack
from image.root import CERTIFICATES, PACKAGES, make_root

NAME = f"airside.internal/airside:{__version__}"
PROGRAM = "/opt/airside/bin/airside"


def annotations(revision: str, created: str) -> dict[str, str]:
    """Returns the annotations of the manifest and labels of the config (annotations.md of OCI)."""
    keys = {
        "title": "airside",
        "description": "Imports image archives, publishes them to containerd, serves them.",
        "version": __version__,
        "revision": revision,
        "created": created,
        "licenses": "Apache-2.0",
        "ref.name": __version__,
        "base.name": "",
    }
    return {f"org.opencontainers.image.{key}": value for key, value in keys.items() if value}


def config(
    arch: Architecture, layers: list[PackedLayer], created: str, labels: Mapping[str, str]
) -> bytes:
    """Returns the image's config. `Healthcheck` is Docker's; containerd ignores it."""
    document: dict[str, Any] = {
        "created": created,
        "architecture": arch.name,
        "os": "linux",
        "config": {
            "User": "0:0",
            "ExposedPorts": {"5050/tcp": {}},
            "Env": ["PATH=/opt/airside/bin:/usr/bin", f"SSL_CERT_FILE=/{CERTIFICATES}"],
            "Entrypoint": [PROGRAM],
            "Cmd": ["run"],
            "Volumes": {"/var/lib/airside": {}},
            "WorkingDir": "/",
            "Labels": dict(labels),
            "StopSignal": "SIGTERM",
            "Healthcheck": {
                "Test": ["CMD", PROGRAM, "status", "--check"],
                "Interval": 30_000_000_000,
                "Timeout": 10_000_000_000,
                "StartPeriod": 60_000_000_000,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": each.created_by} for each in layers],
    }
    if arch.name == "arm64":
        document["variant"] = "v8"
    return json_bytes(document)


def build(
    arch: Architecture, frozen: Path, work: Path, *, revision: str, created: str
) -> ImageSpec:
    """Returns the image of one architecture; its layers are in files below `work`."""
    if not (frozen / "bin/airside").exists():
        raise SystemExit(f"image: {frozen} has no bin/airside: run `make frozen`")
    work.mkdir(parents=True, exist_ok=True)
    runtime = work / "debian"
    root = work / "root"
    make_root(unpack_runtime(arch, runtime, PACKAGES), arch, root)
    versions = " ".join(f"{each['Package']}={each['Version']}" for each in packages(runtime))
    layers = [
        pack(root, "", work / "root.tar.gz", f"files of Debian: {versions}"),
        pack(frozen, "opt/airside/", work / "program.tar.gz", f"airside {__version__}"),
    ]
    texts = annotations(revision, created)
    labels = {key: value for key, value in texts.items() if not key.endswith("ref.name")}
    raw = config(arch, layers, created, labels)
    return ImageSpec(raw, [each.layer for each in layers], (NAME,), annotations=texts)


def _time(epoch: int) -> str:
    return dt.datetime.fromtimestamp(epoch, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> int:
    parser = argparse.ArgumentParser(prog="image", description=__doc__)
    parser.add_argument("--frozen", action="append", required=True, metavar="ARCH=DIRECTORY")
    parser.add_argument("--work", type=Path, default=Path("build/image"))
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--revision", default="", help="the commit, for the annotations")
    parser.add_argument("--epoch", type=int, default=0, help="SOURCE_DATE_EPOCH")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    created, images = _time(given.epoch), {}
    for text in given.frozen:
        name, _, directory = text.partition("=")
        arch = ARCHITECTURES[name]
        work = given.work.resolve() / name
        images[name] = build(arch, Path(directory), work, revision=given.revision, created=created)
    roots: dict[str, ImageSpec | IndexSpec] = {
        f"airside-image-{__version__}-{name}.tar": image for name, image in images.items()
    }
    if len(images) > 1:
        members = [
            ImageSpec(i.config, i.layers, annotations=i.annotations) for i in images.values()
        ]
        texts = next(iter(images.values())).annotations
        roots[f"airside-image-{__version__}.tar"] = IndexSpec(members, (NAME,), annotations=texts)
    for name, root in roots.items():
        with open_compressed(given.out / name) as out:
            write_oci_archive(out, [root])
        size = (given.out / name).stat().st_size
        print(json.dumps({"file": str(given.out / name), "bytes": size}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
