"""A small image whose container waits until it is killed: for pods, and for what must run on."""

import io
import json
import platform
from pathlib import Path

from airside.archive.sample import executable
from airside.archive.writer.docker_archive import write_docker_archive
from airside.archive.writer.image_spec import ImageSpec, Layer
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.tar_stream import write_archive
from airside.oci.model import DOCKER_LAYER, DOCKER_MANIFEST
from airside.oci.platform import node_platform

PAUSE_NAME = "docker.io/airside/pause:1"

_HEADERS_BYTES = 120
_WAITS = {
    # mov eax, 34 (pause); syscall; jmp to the start
    "x86_64": bytes.fromhex("b8220000000f05ebf7"),
    # x0..x3 = 0; x8 = 73 (ppoll); svc; b to the start
    "aarch64": bytes.fromhex("000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"),
}


def write_pause(path: Path, name: str = PAUSE_NAME, *, label: str = "") -> None:
    """Write a docker-archive of it, for the node's platform. Another `label` is another image."""
    sample, waits = executable(node_platform()), _WAITS[platform.machine()]
    program = sample[:_HEADERS_BYTES] + waits + sample[_HEADERS_BYTES + len(waits) :]
    layer = io.BytesIO()
    write_archive(layer, [Member("pause", blob_of(program), mode=0o755)])
    blob = blob_of(layer.getvalue())
    config = {
        "architecture": node_platform().architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "WorkingDir": "/", "Labels": {"label": label}},
        "rootfs": {"type": "layers", "diff_ids": [str(blob.digest)]},
    }
    layers = (Layer(blob, DOCKER_LAYER),)
    with path.open("wb") as out:
        image = ImageSpec(json.dumps(config).encode(), layers, (name,), DOCKER_MANIFEST)
        write_docker_archive(out, [image])
