"""System calls that the store needs, and the translation of `OSError`."""

import ctypes
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airside.core.errors import StorageFullError, StoreError
from airside.core.settings import MIB

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
_OPEN_DIRECTORY = 0o755
_NO_MODES = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
"""Of file systems without modes, such as vfat and some of FUSE."""

_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = getattr(_libc, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def translated(doing: str, path: Path) -> Iterator[None]:
    """Turns an OSError into StoreError or StorageFullError; `doing` says what failed."""
    try:
        yield
    except OSError as exc:
        kind = StorageFullError if exc.errno in _FULL else StoreError
        hint = "free space on the file system of the store" if kind is StorageFullError else None
        raise kind(f"{doing} {path}: {exc.strerror or exc}", path=path, hint=hint) from exc


def start_writeback(descriptor: int, offset: int, count: int) -> None:
    """Asks the kernel to begin writing these bytes to disk, so that a later fsync takes less time.

    Only a hint (sync_file_range(2)): a failure is ignored.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, count, _SYNC_FILE_RANGE_WRITE)


def sync_file(path: Path) -> None:
    """Fsyncs a file by name. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Fsyncs a directory, which makes renames in it durable. Raises OSError."""
    sync_file(path)


def make_directories(path: Path, mode: int = _OPEN_DIRECTORY) -> None:
    """Creates a directory with this mode, its absent parents with 0755, whatever the umask.

    An existing one stays as it is. Raises OSError.
    """
    try:
        path.mkdir(mode & PRIVATE_DIRECTORY)
    except FileNotFoundError:
        make_directories(path.parent)
        make_directories(path, mode)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        set_mode(path, mode)


def set_mode(file: Path | int, mode: int) -> None:
    """Sets the mode of a path or descriptor, unless the file system has none. Raises OSError."""
    try:
        os.chmod(file, mode)  # noqa: PTH101 - perhaps a descriptor
    except OSError as exc:
        if exc.errno not in _NO_MODES:
            raise


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file in hexadecimal. Raises OSError."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while chunk := file.read(MIB):
            hasher.update(chunk)
    return hasher.hexdigest()


def open_private(path: str, flags: int) -> int:
    """An opener for `open`: a new file is readable by this user only. A link is not followed."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a small private file: temporary file, fsync, rename, fsync of the directory.

    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # whatever is there, nothing is written through it
    descriptor = open_private(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)
