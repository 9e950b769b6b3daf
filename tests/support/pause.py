"""A small image whose container waits until it is killed: for pods, and for what must run on."""

import io
import json
from pathlib import Path
from platform import machine

from airside.archive.sample import executable
from airside.archive.writer.docker_archive import write_docker_archive
from airside.archive.writer.image_spec import ImageSpec, Layer
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.tar_stream import write_archive
from airside.oci.model import DOCKER_LAYER, DOCKER_MANIFEST, OCI_LAYER
from airside.oci.platform import Platform, node_platform

PAUSE_NAME = "docker.io/airside/pause:1"

_HEADERS_BYTES = 120
_WAITS = {
    # mov eax, 34 (pause); syscall; jmp to the start
    "x86_64": bytes.fromhex("b8220000000f05ebf7"),
    # x0..x3 = 0; x8 = 73 (ppoll); svc; b to the start
    "aarch64": bytes.fromhex("000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"),
}


def pause_image(
    name: str = PAUSE_NAME,
    *,
    label: str = "",
    platform: Platform | None = None,
    media_type: str = DOCKER_MANIFEST,
) -> ImageSpec:
    """The image, of the node's platform without another. Another `label` is another image.

    The program is for the node's platform, whatever the image says.
    """
    layer = io.BytesIO()
    write_archive(layer, [Member("pause", blob_of(_program()), mode=0o755)])
    blob = blob_of(layer.getvalue())
    config = {
        "architecture": (platform or node_platform()).architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "WorkingDir": "/", "Labels": {"label": label}},
        "rootfs": {"type": "layers", "diff_ids": [str(blob.digest)]},
    }
    layers = (Layer(blob, DOCKER_LAYER if media_type == DOCKER_MANIFEST else OCI_LAYER),)
    return ImageSpec(json.dumps(config).encode(), layers, (name,), media_type)


def _program() -> bytes:
    sample, waits = executable(node_platform()), _WAITS[machine()]
    return sample[:_HEADERS_BYTES] + waits + sample[_HEADERS_BYTES + len(waits) :]


def write_pause(path: Path, name: str = PAUSE_NAME, *, label: str = "") -> None:
    """Write a docker-archive of it, for the node's platform."""
    with path.open("wb") as out:
        write_docker_archive(out, [pause_image(name, label=label)])
