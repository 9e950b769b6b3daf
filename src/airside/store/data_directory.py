"""The data directory of one Airside: its lock, its format, and space reserved for a full disk.

What always holds: one agent, or one command without an agent, works on a data directory at a time;
no other user reads it; a directory of a newer format is refused. Blocking.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from airside.core.disk_space import free_bytes
from airside.core.errors import ConfigError
from airside.core.settings import FORMAT, MIB
from airside.store.access_modes import check_owner, give_to_owner, restrict_data_directory
from airside.store.data_lock import locked
from airside.store.filesystem import (
    PRIVATE_DIRECTORY,
    make_directories,
    open_private,
    translated,
    write_durably,
)

log = logging.getLogger("airside.node")

RESERVE = "reserve"
RESERVE_BYTES = 4 * MIB
"""Reserved in `DATA`, so that on a full disk the catalog can be opened and images are served."""
START_RESERVE_BYTES = 2 * MIB
"""The part that is left for the next start when the disk fills up while the process runs."""


class Reserve:
    """A file in the data directory that is given up when the disk is full. Thread-safe."""

    def __init__(self, data: Path) -> None:
        self._data, self._path = data, data / RESERVE
        self._lock = threading.Lock()

    def release(self, *, leave_bytes: int = 0) -> None:
        """Shrink the file to `leave_bytes` if the disk is full. Raises OSError."""
        with self._lock:
            free = free_bytes(self._data)
            if free >= RESERVE_BYTES or not self._path.exists():
                return
            if self._path.stat().st_size <= leave_bytes:
                return
            log.warning(
                "%s is full (%d bytes free): serving goes on, imports wait for space",
                self._data,
                free,
            )
            if leave_bytes:
                os.truncate(self._path, leave_bytes)
            else:
                self._path.unlink()

    def release_for_writing(self) -> None:
        """Shrink the file on a full disk, so that the catalog can be written; never raises OSError.

        A part is left for the next start.
        """
        with suppress(OSError):
            self.release(leave_bytes=START_RESERVE_BYTES)

    def restore(self) -> None:
        """Allocate the file again if the disk has room for twice its size."""
        with self._lock:
            size = self._path.stat().st_size if self._path.exists() else 0
            if size == RESERVE_BYTES or free_bytes(self._data) < 2 * RESERVE_BYTES:
                return
            with (
                suppress(OSError),
                open(self._path, "ab", opener=open_private) as file,
            ):
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


@contextmanager
def open_data_directory(data: Path, *, group: str = "") -> Iterator[Reserve]:
    """Create the directory if it is absent and hold its lock for as long as the context lasts.

    Only this user may open it, and members of `group` (`airside.store.access_modes`). Raises
    ConflictError naming the process that holds the lock, ConfigError for a newer format or an
    unknown group, StoreError.
    """
    reserve = Reserve(data)
    with translated("cannot make the data directory", data):
        make_directories(data, PRIVATE_DIRECTORY)
        check_owner(data)
        reserve.release()
    with locked(data):
        with translated("cannot close to other users", data):
            restrict_data_directory(data, group)
        try:
            _check_format(data)
            yield reserve
        finally:
            give_to_owner(data)


def _check_format(data: Path) -> None:
    """Write the format's version, or refuse a newer one."""
    path = data / "format"
    with translated("cannot read", path):
        if not path.exists():
            write_durably(path, f"{FORMAT}\n".encode())
            return
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdigit():
        raise ConfigError(f"{path} does not hold a version: is {data} a data directory of Airside?")
    if int(text) > FORMAT:
        raise ConfigError(
            f"{data} has format {text}, this Airside knows up to {FORMAT}: install a newer Airside"
        )


def boot_id() -> str:
    """The kernel's ID of the current boot; empty if it can't be read."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
