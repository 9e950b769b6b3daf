"""A blob's file read from the disk and hashed, without pushing others out of the page cache."""

import errno
import os
import stat as stat_module
from collections.abc import Callable
from pathlib import Path

from airside.core.errors import StoreError
from airside.core.failpoints import fault
from airside.core.settings import MIB
from airside.oci.digest import Digest, new_hasher
from airside.store.scrub_results import BlobFile, is_media_error

_CHUNK_BYTES = MIB
_DROP_BYTES = 8 * MIB


def examine(
    path: Path, digest: Digest, size_bytes: int, each: Callable[[int], None] = lambda _count: None
) -> BlobFile:
    """Hash a blob's file; one of another size is not read. `each` is told of each chunk's bytes.

    Gives an empty `BlobFile` where there is none. What the disk cannot read is part of the answer;
    raises StoreError where it is not this file but the file system that fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return BlobFile()
    except OSError as exc:
        return _failed(path, exc)
    try:
        return _hashed(descriptor, path, digest, size_bytes, each)
    finally:
        os.close(descriptor)


def file_key(path: Path) -> str:
    """As the `key` of what was seen; empty where there is no file."""
    try:
        return _key(path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise StoreError(f"cannot stat {path}: {exc.strerror}", path=path) from exc


def check_working(root: Path, ingest: Path) -> None:
    """Raise StoreError where the store's file system is gone, or takes nothing any more.

    To be asked before a blob is called lost: where all are, it is not they that are wrong.
    """
    if not (root / "oci-layout").is_file() or not (root / "blobs").is_dir():
        raise StoreError(
            f"{root} is no image layout any more: is its file system mounted? Nothing is called "
            "lost",
            path=root,
        )
    probe = ingest / f"{os.getpid()}-probe"
    try:
        try:
            with probe.open("wb") as file:
                file.write(b"probe\n")
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as exc:
        if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreError(
                f"the file system of {root} fails ({exc.strerror}): nothing is called lost",
                path=root,
            ) from exc


def _hashed(
    descriptor: int, path: Path, digest: Digest, size_bytes: int, each: Callable[[int], None]
) -> BlobFile:
    try:
        found = os.fstat(descriptor)
        key = _key(found)
        if not stat_module.S_ISREG(found.st_mode) or found.st_size != size_bytes:
            return BlobFile(key, found.st_size)
        hasher, done, dropped = new_hasher(digest.algorithm), 0, 0
        buffer = bytearray(_CHUNK_BYTES)
        view = memoryview(buffer)
        while count := os.preadv(descriptor, [buffer], done):
            fault("scrub.in_read")
            hasher.update(view[:count])
            done += count
            if done - dropped >= _DROP_BYTES:
                _drop(descriptor, dropped, done)
                dropped = done
            each(count)
        _drop(descriptor, 0, 0)
    except OSError as exc:
        return _failed(path, exc)
    return BlobFile(key, done, Digest(digest.algorithm, hasher.hexdigest()))


def _key(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _drop(descriptor: int, start: int, end: int) -> None:
    """Give back the page cache of what was read; the next read is the disk's. 0: to the end."""
    os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_DONTNEED)


def _failed(path: Path, exc: OSError) -> BlobFile:
    if not is_media_error(exc.errno):
        raise StoreError(f"cannot read {path}: {exc.strerror}", path=path) from exc
    return BlobFile(key=_key_or_empty(path), error=exc.errno or 0)


def _key_or_empty(path: Path) -> str:
    try:
        return _key(path.stat(follow_symlinks=False))
    except OSError:
        return ""
