"""Archives of images that are no ordinary image of the node: other platforms, other layers.

`ODD` has what a runtime shall get of every kind.
"""

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airside.oci.model import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from support.images import TestBlob, TestLayer, compact, random_layer

WASM_LAYER = "application/vnd.wasm.content.layer.v1+wasm"
WASM_CONFIG = "application/vnd.wasm.config.v0+json"
WASM = b"\0asm\1\0\0\0"
WASIP1 = {"os": "wasip1", "architecture": "wasm"}
LINUX = {"os": "linux", "architecture": "amd64"}
OTHER = {"os": "linux", "architecture": "s390x"}
NAME = "io.containerd.image.name"


@dataclass(frozen=True, kw_only=True)
class OddImage:
    """A manifest, below an index if `listed` is given, with the platforms that each names.

    `rooted`: the platform of its entry in index.json. `listed`: that of its entry in the image's
    own index, `{}` for none. `unpacked`: its layers are, on a node of linux/amd64. `targets`: the
    document that the name points at.
    """

    platform: Mapping[str, str] = field(default_factory=lambda: LINUX)
    layers: Sequence[str] = (OCI_LAYER,)
    config_type: str = OCI_CONFIG
    artifact_type: str = ""
    rooted: Mapping[str, str] | None = None
    listed: Mapping[str, str] | None = None
    unpacked: bool = True
    targets: str = "root"
    noted: str = ""

    def blobs(self, seed: str) -> list[TestBlob]:
        """Layers, config, manifest, and the index if there is one."""
        layers = [_layer(f"{seed}{n}", kind) for n, kind in enumerate(self.layers)]
        no_wasm = [each for each in layers if "wasm" not in each.media_type]
        diff_ids = [str(each.diff_id) for each in no_wasm or layers]
        value: dict[str, Any] = {**self.platform, "config": {"Labels": {"seed": seed}}}
        value["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        config = TestBlob(compact(value), self.config_type)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            **({"artifactType": self.artifact_type} if self.artifact_type else {}),
            "config": config.descriptor,
            "layers": [each.descriptor for each in layers],
        }
        found: list[TestBlob] = [*layers, config, TestBlob(compact(document), OCI_MANIFEST)]
        if self.listed is not None:
            entry = found[-1].descriptor | ({"platform": dict(self.listed)} if self.listed else {})
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
            found.append(TestBlob(compact(index), OCI_INDEX))
        return found

    def root(self, name: str) -> dict[str, Any]:
        """Its entry in index.json."""
        platform = {"platform": dict(self.rooted)} if self.rooted else {}
        return {**self.blobs(name)[-1].descriptor, **platform, "annotations": {NAME: name}}

    def target(self, name: str) -> str:
        blobs = self.blobs(name)
        manifest = blobs[-1] if self.listed is None else blobs[-2]
        return str((manifest if self.targets == "manifest" else blobs[-1]).digest)


def write_layout(path: Path, images: Mapping[str, OddImage]) -> Path:
    """Writes one layout of images by their names."""
    roots = [image.root(name) for name, image in images.items()]
    blobs = [blob for name, image in images.items() for blob in image.blobs(name)]
    members = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": compact({"schemaVersion": 2, "manifests": roots}),
        **{f"blobs/sha256/{each.digest.hex}": each.raw for each in blobs},
    }
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, raw in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


def _layer(seed: str, media_type: str) -> TestLayer:
    if "tar" in media_type and "encrypted" not in media_type:
        made = random_layer(seed, layer_bytes=2000)
        return TestLayer(made.raw, media_type, made.tar)
    raw = (WASM if "wasm" in media_type else b"no tar ") + seed.encode()
    return TestLayer(raw, media_type, raw)


_IN_PLACE: dict[str, Any] = {"listed": {}, "targets": "manifest"}

ODD: dict[str, OddImage] = {
    "mislabelled": OddImage(platform=OTHER, noted="its config says linux/s390x"),
    "mislabelled-in-index": OddImage(platform=OTHER, noted="linux/s390x", **_IN_PLACE),
    "mislabelled-listed": OddImage(platform=OTHER, listed=LINUX, noted="the list counts"),
    "mislabelled-rooted": OddImage(platform=OTHER, rooted=LINUX, noted="the list counts"),
    "variant": OddImage(platform={**LINUX, "variant": "v4"}, noted="linux/amd64/v4"),
    "unknown": OddImage(platform={"os": "unknown", "architecture": "unknown"}),
    "nameless": OddImage(platform={"os": "", "architecture": ""}),
    "spin": OddImage(
        platform=WASIP1,
        layers=(WASM_LAYER, "application/vnd.fermyon.spin.application.v1+config"),
        unpacked=False,
        noted="WebAssembly",
    ),
    "spin-of-linux": OddImage(layers=(WASM_LAYER,), unpacked=False, noted="a shim"),
    "wasm-artifact": OddImage(
        platform=WASIP1,
        config_type=WASM_CONFIG,
        layers=("application/wasm",),
        unpacked=False,
        noted=WASM_CONFIG,
    ),
    "wasm-component": OddImage(
        platform=WASIP1,
        layers=("application/vnd.bytecodealliance.component.layer.v0+wasm",),
        artifact_type="application/vnd.bytecodealliance.component.v1+wasm",
        unpacked=False,
        noted="a shim",
    ),
    "wasm-compat": OddImage(platform=WASIP1, noted="for any node"),
    "wasm-in-index": OddImage(
        platform=WASIP1,
        listed={"os": "wasi", "architecture": "wasm"},
        targets="manifest",
        noted="for any node",
    ),
    "wasm-beside": OddImage(layers=(OCI_LAYER, WASM_LAYER)),
    "erofs": OddImage(
        layers=("application/vnd.erofs.layer.v1",), unpacked=False, noted="vnd.erofs.layer"
    ),
    "erofs-newer": OddImage(
        layers=("application/vnd.oci.image.layer.v1.erofs",), unpacked=False, noted="v1.erofs"
    ),
    "nydus": OddImage(
        layers=("application/vnd.oci.image.layer.nydus.blob.v1", OCI_LAYER),
        unpacked=False,
        noted="nydus.blob",
    ),
    "encrypted": OddImage(
        layers=(f"{OCI_LAYER}+gzip+encrypted",), unpacked=False, noted="encrypted"
    ),
    "unknown-layers": OddImage(
        layers=("application/x-tomorrow",), unpacked=False, noted="x-tomorrow"
    ),
}
