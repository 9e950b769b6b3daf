"""Makes unpacked snapshots durable: containerd does not sync them itself.

Paths are containerd's. For a path that is not visible here all file systems are synced.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from airside.core.errors import StoreError

_libc = ctypes.CDLL(None, use_errno=True)
_REMEMBERED = 16
"""The number of sync rounds whose errors are remembered."""
_syncfs = cast("Callable[[int], int] | None", getattr(_libc, "syncfs", None))


def sync_file_system(path: Path | None) -> None:
    """Waits until everything written to the file system of `path` is durable.

    Raises StoreError if the disk failed.
    """
    if path is None or _syncfs is None:
        os.sync()
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        os.sync()  # sync(2) waits, but reports no error
        return
    try:
        if _syncfs(descriptor):
            number = ctypes.get_errno()
            raise StoreError(f"cannot sync {path}: {os.strerror(number)}", path=path)
    finally:
        os.close(descriptor)


class SharedSync:
    """Syncs one file system: threads that ask during a sync share the next one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._begun = self._ended = 0
        self._errors: dict[int, StoreError] = {}

    def sync(self) -> None:
        """Returns when everything written before the call is durable. Raises StoreError."""
        with self._changed:
            mine = self._begun + 1  # a running sync may have begun too early
            self._changed.wait_for(lambda: self._ended == self._begun or self._ended >= mine)
            if self._ended < mine:
                self._begun = mine
            else:
                self._raise_error(mine)
                return
        try:
            sync_file_system(self._path)
        except StoreError as exc:
            self._errors[mine] = exc
        finally:
            with self._changed:
                self._ended = mine
                self._errors = {n: e for n, e in self._errors.items() if n > mine - _REMEMBERED}
                self._changed.notify_all()
        self._raise_error(mine)

    def _raise_error(self, number: int) -> None:
        error = self._errors.get(number)
        if error is not None:
            raise StoreError(error.message, **error.context)
