"""Writes archive files under a hidden name, compressed, and renames them when complete."""

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, cast

from isal import igzip

from airside.core.errors import StorageFullError, StoreError
from airside.core.settings import CHUNK_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Compression: TypeAlias = Literal["none", "gzip", "zstd"]


@contextlib.contextmanager
def open_compressed(path: Path, compression: Compression = "none") -> Iterator[BinaryIO]:
    """Open a new archive for writing; it is renamed to `path` when the block ends without error.

    Until then it has a hidden name ending in `.part`, which no agent reads. The file is not
    synced. Raises StoreError, StorageFullError.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb", buffering=CHUNK_BYTES) as raw, _compressor(raw, compression) as out:
            yield out
        part.replace(path)
    except BaseException as exc:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(exc, OSError):
            full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
            reason = exc.strerror or exc
            kind = StorageFullError if full else StoreError
            raise kind(f"cannot write {path}: {reason}", path=path) from exc
        raise


@contextlib.contextmanager
def _compressor(raw: BinaryIO, compression: Compression) -> Iterator[BinaryIO]:
    if compression == "gzip":
        gzip = igzip.IGzipFile("", "wb", fileobj=raw, mtime=0)  # type: ignore[no-untyped-call]
        with gzip as out:
            yield cast("BinaryIO", out)
    elif compression == "zstd":
        options = {int(zstd.CompressionParameter.checksum_flag): 1}  # as the `zstd` command does
        with zstd.ZstdFile(raw, "wb", options=options) as out:
            yield cast("BinaryIO", out)
    else:
        yield raw
