"""Streams members as a tar, and verifies every blob's digest and size while it is copied."""

import tarfile
from collections.abc import Iterable
from typing import BinaryIO

from airside.archive.writer.member import Blob, Member
from airside.core.errors import DigestMismatchError, SizeMismatchError
from airside.core.settings import CHUNK_BYTES
from airside.oci.digest import Digest, new_hasher

_RECORD_BYTES = 10240


def write_archive(out: BinaryIO, members: Iterable[Member]) -> None:
    """Stream the members as a tar, with its end blocks. `out` needs no `seek` or `tell`.

    Raises SizeMismatchError, DigestMismatchError; the output is then invalid.
    """
    written = 0
    for member in members:
        header = _header(member)
        out.write(header)
        written += len(header)
        if member.blob is not None:
            _copy(out, member.blob, member.name)
            padding = -member.blob.size_bytes % tarfile.BLOCKSIZE
            out.write(bytes(padding))
            written += member.blob.size_bytes + padding
    end = 2 * tarfile.BLOCKSIZE
    out.write(bytes(end + -(written + end) % _RECORD_BYTES))


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.mode = member.mode
    if member.blob is not None:
        info.size = member.blob.size_bytes
    elif member.target:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
    else:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.PAX_FORMAT)


def _copy(out: BinaryIO, blob: Blob, name: str) -> None:
    hasher = new_hasher(blob.digest.algorithm)
    left = blob.size_bytes
    with blob.open() as source:
        while left and (chunk := source.read(min(CHUNK_BYTES, left))):
            hasher.update(chunk)
            out.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise SizeMismatchError(
                f"the content of member {name} does not have the {blob.size_bytes} bytes of "
                f"blob {blob.digest.short}",
                blob=blob.digest,
                expected=blob.size_bytes,
            )
    if hasher.hexdigest() != blob.digest.hex:
        found = Digest(blob.digest.algorithm, hasher.hexdigest())
        raise DigestMismatchError(
            f"the content of member {name} hashes to {found.short}, not to {blob.digest.short}",
            blob=blob.digest,
            expected=blob.digest,
            found=found,
        )
