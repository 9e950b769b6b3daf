"""The lock of a data directory: one process at a time works on it. Blocking.

Two locks (flock(2)) are held: that of the file `lock`, which names our process, as earlier versions
hold it, and that of the directory itself, which holds when the file was deleted or replaced.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from airside.core.errors import ConflictError
from airside.store.filesystem import PRIVATE_FILE, translated

LOCK = "lock"
_LOCKS = Path("/proc/locks")
_NO_DIRECTORY_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Of file systems that emulate flock(2) by locks on open files, such as NFS."""


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Holds both locks. Raises ConflictError that names the other process, StoreError."""
    path = data / LOCK
    with translated("cannot open", path):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(path, flags, PRIVATE_FILE)
    try:
        with translated("cannot lock", path):
            _lock(file, data, named=file)
        with translated("cannot open", data):
            directory = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with translated("cannot lock", data):
                _lock_directory(directory, data)
                os.ftruncate(file, 0)
                os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(directory)
    finally:
        os.close(file)


def _lock_directory(descriptor: int, data: Path) -> None:
    try:
        _lock(descriptor, data)
    except OSError as exc:
        if exc.errno not in _NO_DIRECTORY_LOCKS:
            raise


def _lock(descriptor: int, data: Path, *, named: int | None = None) -> None:
    """Locks at once. `named`: a file with the number of the process that holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        pid = "" if named is None else os.pread(named, 32, 0).decode("ascii", "replace").strip()
        pid = pid or str(_holder_of(os.fstat(descriptor)) or "unknown")
        raise ConflictError(
            f"{data} is in use by the process {pid}: stop it, or choose another --data",
            path=data,
            pid=pid,
        ) from exc


def lock_holder(path: Path) -> int | None:
    """Returns the PID that holds an flock of this file or directory, without locking it."""
    with suppress(OSError):
        return _holder_of(path.stat())
    return None


def _holder_of(found: os.stat_result) -> int | None:
    try:
        lines = _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in lines:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == device and int(words[4]) > 0:
            return int(words[4])
    return None
