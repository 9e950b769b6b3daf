"""Layers that are small and take much space when they are unpacked."""

import io
import tarfile
from collections.abc import Iterator

from support.images import TestLayer, layer_of


def zeros(size_bytes: int) -> TestLayer:
    """One file of zeros, with gzip."""
    info = tarfile.TarInfo("zeros")
    info.size = size_bytes
    return layer_of(info.tobuf() + bytes(-(-size_bytes // 512) * 512 + 1024), compression="gzip")


def sparse(size_bytes: int, *, old: bool = False) -> TestLayer:
    """A sparse file without any data, in a plain tar of a few blocks: GNU's old form, or 1.0."""
    if old:
        info = tarfile.TarInfo("hole")
        info.type = tarfile.GNUTYPE_SPARSE
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[483:495] = b"%011o\0" % size_bytes
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block)
        return layer_of(bytes(block) + bytes(1024))
    info = tarfile.TarInfo("GNUSparseFile.0/hole")
    info.size = 512
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "hole",
        "GNU.sparse.realsize": str(size_bytes),
    }
    return layer_of(info.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0") + bytes(1024))


def entries(count: int, *, directories: bool, size_bytes: int = 1) -> TestLayer:
    """Directories, or files of a byte: each takes a block or more on disk, and an inode."""
    out = io.BytesIO()
    for block in _entries(count, size_bytes, directories=directories):
        out.write(block)
    return layer_of(out.getvalue() + bytes(1024), compression="gzip")


def _entries(count: int, size_bytes: int, *, directories: bool) -> Iterator[bytes]:
    for number in range(count):
        info = tarfile.TarInfo(f"{number % 100}-{number}")
        if directories:
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            yield info.tobuf()
        else:
            info.size = size_bytes
            yield info.tobuf() + (b"x".ljust(512, b"\0") if size_bytes else b"")
