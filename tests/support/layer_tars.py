"""Tars of layers, member by member, hostile ones too."""

import functools
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from airside.containerd.services.snapshots import Mount
from airside.containerd.verified_tars import VerifiedTar
from airside.oci.digest import digest_of


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> bytes:
    """Returns one member: its headers and its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def tar_of(members: Iterable[bytes]) -> bytes:
    return b"".join(members) + bytes(1024)


def verified(path: Path, tar: bytes) -> VerifiedTar:
    """Returns a tar as an open file; `path` is where it is."""
    path.write_bytes(tar)
    return VerifiedTar(path.open("rb"), digest_of(tar))


def bound(directory: Path) -> list[Mount]:
    """Returns the mounts of a snapshot that is this directory."""
    return [Mount("bind", str(directory), "", ("rw", "rbind"))]


@functools.cache
def many_files(count: int, directories: int = 64) -> bytes:
    """Returns a layer that takes a while: small files in turns in some directories."""
    out = io.BytesIO()
    for number in range(directories):
        out.write(entry(f"d{number:02}/", tarfile.DIRTYPE, mode=0o755))
    first = entry("d00/000000", data=b"x", mode=0o644)
    total = int(first[148:154], 8) - sum(first[:10])
    for number in range(count):
        name = b"d%02d/%06d" % (number % directories, number)
        out.write(name + first[10:148] + b"%06o" % (total + sum(name)) + first[154:])
    out.write(bytes(1024))
    return out.getvalue()
