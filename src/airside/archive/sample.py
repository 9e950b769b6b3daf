"""A small runnable image, made without any tool: for a first try and for `doctor`.

Its only file is `/hello`, a static ELF executable that is assembled here for each platform: it
writes one line and exits with status 0. The layers are plain tars, so its digests never change.
"""

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from airside.archive.writer.docker_archive import write_docker_archive
from airside.archive.writer.image_spec import ImageSpec, IndexSpec, Layer
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.oci_archive import write_oci_archive
from airside.archive.writer.output_file import Compression, open_compressed
from airside.archive.writer.tar_stream import write_archive
from airside.core.errors import RequestInvalidError
from airside.oci.model import DOCKER_LAYER, DOCKER_MANIFEST
from airside.oci.platform import Platform, node_platform
from airside.oci.reference import parse_reference

SAMPLE_NAME = "docker.io/airside/hello:1"
MESSAGE = b"Hello from Airside: this image came without a network.\n"

_SUFFIXES: dict[str, Compression] = {
    ".tar": "none",
    ".tar.gz": "gzip",
    ".tgz": "gzip",
    ".tar.zst": "zstd",
}
_CREATED = "1970-01-01T00:00:00Z"

_LOAD_ADDRESS = 0x400000
_HEADER_BYTES = 64 + 56  # the ELF header and one program header; the code follows


def write_sample(
    path: Path,
    *,
    name: str = SAMPLE_NAME,
    format: Literal["oci", "docker"] = "oci",  # noqa: A002 - the word of the command line
    platform: Platform | None = None,
) -> list[str]:
    """Write the sample image as an archive; the suffix of `path` chooses the compression.

    `oci` has all platforms; `docker` has one, `platform` or else the node's. Returns the
    references in the archive. Raises RequestInvalidError (suffix or platform),
    ReferenceInvalidError, StoreError.
    """
    reference = str(parse_reference(name))
    compression = _compression(path)
    if format == "docker":
        image = sample_image(platform or node_platform(), (reference,), docker=True)
        with open_compressed(path, compression) as out:
            write_docker_archive(out, [image])
    else:
        images = [sample_image(each) for each in sorted(_MACHINES)]
        with open_compressed(path, compression) as out:
            write_oci_archive(out, [IndexSpec(images, (reference,))])
    return [reference]


def sample_image(
    platform: Platform, names: tuple[str, ...] = (), *, docker: bool = False
) -> ImageSpec:
    """Returns the sample for one platform. Raises RequestInvalidError for an unknown platform."""
    buffer = io.BytesIO()
    write_archive(buffer, [Member("hello", blob_of(executable(platform)), mode=0o755)])
    layer = blob_of(buffer.getvalue())
    config = {
        "created": _CREATED,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Cmd": ["/hello"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.digest)]},
        "history": [{"created": _CREATED, "created_by": "airside sample"}],
    }
    raw = json.dumps(config, separators=(",", ":")).encode()
    if docker:
        return ImageSpec(raw, (Layer(layer, DOCKER_LAYER),), names, DOCKER_MANIFEST)
    return ImageSpec(raw, (Layer(layer),), names)


def executable(platform: Platform) -> bytes:
    """Returns a static ELF64 executable that writes `MESSAGE` and exits with 0."""
    machine = _MACHINES.get(platform)
    if machine is None:
        known = ", ".join(map(str, sorted(_MACHINES)))
        raise RequestInvalidError(
            f"there is no sample image for {platform}", found=platform, hint=f"use {known}"
        )
    code = machine.assemble()
    size = _HEADER_BYTES + len(code) + len(MESSAGE)
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF",
        2,  # 64 bits
        1,  # little endian
        1,  # version
        0,  # System V
        2,  # ET_EXEC
        machine.elf_number,
        1,  # version
        _LOAD_ADDRESS + _HEADER_BYTES,  # entry
        64,  # program headers begin here
        0,  # no sections
        0,  # flags
        64,  # bytes of this header
        56,  # bytes of a program header
        1,  # of which there is one
        64,  # bytes of a section header, if there were one
        0,
        0,
    )
    segment = struct.pack(
        "<IIQQQQQQ",
        1,  # PT_LOAD
        5,  # readable, executable
        0,  # the whole file
        _LOAD_ADDRESS,
        _LOAD_ADDRESS,
        size,
        size,
        0x10000,  # fits kernels with pages of 4, 16 and 64 KiB
    )
    return header + segment + code + MESSAGE


def _assemble_amd64() -> bytes:
    """x86-64 Linux: number in eax, arguments in edi, rsi, edx."""
    after = (
        b"\xba" + struct.pack("<I", len(MESSAGE)),  # mov edx, length
        b"\x0f\x05",  #                               syscall
        b"\xb8\x3c\x00\x00\x00",  #                   mov eax, 60        exit
        b"\x31\xff",  #                               xor edi, edi       status 0
        b"\x0f\x05",  #                               syscall
    )
    distance = sum(map(len, after))
    before = (
        b"\xb8\x01\x00\x00\x00",  #                   mov eax, 1         write
        b"\xbf\x01\x00\x00\x00",  #                   mov edi, 1         standard output
        b"\x48\x8d\x35" + struct.pack("<i", distance),  # lea rsi, [rip + distance]
    )
    return b"".join(before + after)


def _assemble_arm64() -> bytes:
    """aarch64 Linux: number in x8, arguments in x0, x1, x2."""
    words = (
        0xD2800020,  #                       mov x0, #1      standard output
        0x10000001 | (7 << 5),  #            adr x1, message: 7 words from here
        0xD2800002 | (len(MESSAGE) << 5),  # mov x2, #length
        0xD2800808,  #                       mov x8, #64     write
        0xD4000001,  #                       svc #0
        0xD2800000,  #                       mov x0, #0      status 0
        0xD2800BA8,  #                       mov x8, #93     exit
        0xD4000001,  #                       svc #0
    )
    return struct.pack("<8I", *words)


@dataclass(frozen=True, slots=True)
class _Machine:
    elf_number: int
    assemble: Callable[[], bytes]


_MACHINES = {
    Platform("linux", "amd64"): _Machine(62, _assemble_amd64),
    Platform("linux", "arm64"): _Machine(183, _assemble_arm64),
}


def _compression(path: Path) -> Compression:
    for suffix, compression in _SUFFIXES.items():
        if path.name.endswith(suffix):
            return compression
    raise RequestInvalidError(
        f"the name {path.name!r} has no suffix of a known compression",
        path=path,
        hint=f"end it with one of {', '.join(_SUFFIXES)}",
    )
