"""Reads and hashes the file of a blob without filling the page cache with it."""

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
    path: Path,
    digest: Digest,
    size_bytes: int | None,
    each: Callable[[int], None] = lambda _count: None,
    *,
    keep_cached: bool = False,
) -> BlobFile:
    """Hashes a blob's file; a file of another size is not read, if a size is given.

    Calls `each` with each chunk's size. `keep_cached`: the file is read again soon.

    Returns an empty `BlobFile` if there is no file. A read that the disk fails is part of the
    result. Raises StoreError if the file system fails, and not this file alone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return BlobFile()
    except OSError as exc:
        return _failed(path, exc)
    try:
        return _hashed(descriptor, path, digest, size_bytes, each, keep_cached=keep_cached)
    finally:
        os.close(descriptor)


def file_key(path: Path) -> str:
    """Returns the `key` of the file as `BlobFile` has it; empty if there is no file."""
    try:
        return _key(path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise StoreError(f"cannot stat {path}: {exc.strerror}", path=path) from exc


def open_file_key(descriptor: int) -> str:
    """Returns the `key` of an open file. Raises OSError."""
    return _key(os.fstat(descriptor))


def check_working(root: Path, ingest: Path) -> None:
    """Raises StoreError if the store's file system is gone or cannot be written.

    Call it before a blob is called lost: if all blobs are gone, the file system is at fault.
    """
    if not (root / "oci-layout").is_file() or not (root / "blobs").is_dir():
        raise StoreError(
            f"{root} is no longer an image layout: is its file system mounted? No blob is marked "
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
                f"the file system of {root} fails ({exc.strerror}): no blob is marked lost",
                path=root,
            ) from exc


def _hashed(
    descriptor: int,
    path: Path,
    digest: Digest,
    size_bytes: int | None,
    each: Callable[[int], None],
    *,
    keep_cached: bool,
) -> BlobFile:
    try:
        found = os.fstat(descriptor)
        key = _key(found)
        if not stat_module.S_ISREG(found.st_mode) or size_bytes not in {None, found.st_size}:
            return BlobFile(key, found.st_size)
        hasher, done, dropped = new_hasher(digest.algorithm), 0, 0
        buffer = bytearray(_CHUNK_BYTES)
        view = memoryview(buffer)
        while count := os.preadv(descriptor, [buffer], done):
            fault("scrub.in_read")
            hasher.update(view[:count])
            done += count
            if not keep_cached and done - dropped >= _DROP_BYTES:
                _drop(descriptor, dropped, done)
                dropped = done
            each(count)
        if not keep_cached:
            _drop(descriptor, 0, 0)
    except OSError as exc:
        return _failed(path, exc)
    return BlobFile(key, done, Digest(digest.algorithm, hasher.hexdigest()))


def _key(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _drop(descriptor: int, start: int, end: int) -> None:
    """Drops these bytes from the page cache, so that the next read is from disk.

    End 0: to the end.
    """
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
