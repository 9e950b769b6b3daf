"""The free space of the file systems that Airside and its containerd write to. Blocking.

What always holds: nobody writes what would leave less than `min_free_bytes` on the file system that
is written to. Each writer asks before each piece. One account per file system counts the bytes that
were granted and are not written yet, so that concurrent writers are not granted the same space.

containerd writes for us what we can't count while it is written: such a grant (`Grant`) shrinks by
what the free space falls without another explanation.

A part above `min_free_bytes`, the margin, is for what no writer asks for: the catalog,
`index.json` and the file system's own records. So these can be written when all others must wait.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from airside.core.errors import StorageFullError
from airside.core.settings import MIB

_MARGIN_BYTES = 8 * MIB
_MARGIN_PART = 16
"""The margin is this part of `min_free_bytes`, at most `_MARGIN_BYTES`."""
_INODE_PART = 50
"""This part of a file system's inodes stays free, too."""
_BLOCK_BYTES = 4096
_AMPLE_BYTES = 1024 * MIB
_LOOK_SECONDS = 0.2
"""With ample room, the file system is looked at so often: nobody else fills it in that time."""


@dataclass(slots=True, eq=False)
class Grant:
    """Space for bytes that another process writes for us."""

    left_bytes: int


@dataclass(slots=True)
class _Account:
    """The grants of one file system."""

    asked_bytes: int = 0
    """Granted to writers of this process, and not written yet."""
    written_bytes: int = 0
    """Written by this process since `free_bytes` was read."""
    free_bytes: int = 0
    grants: list[Grant] = field(default_factory=list)

    @property
    def room_bytes(self) -> int:
        """The bytes that are not granted, as of the last look."""
        granted = self.asked_bytes + sum(grant.left_bytes for grant in self.grants)
        return self.free_bytes - self.written_bytes - granted

    def saw(self, free: int) -> int:
        """Takes what was written for us from its grants. Returns the bytes that are not granted."""
        drop = self.free_bytes - free - self.written_bytes
        for grant in self.grants:
            part = max(0, min(grant.left_bytes, drop))
            grant.left_bytes -= part
            drop -= part
        self.free_bytes, self.written_bytes = free, 0
        return self.room_bytes


_NONE = _Account()
"""Of a path that was not looked at: no room."""


class DiskSpace:
    """The accounts of all file systems, by the paths on them. Thread-safe.

    A path below a directory that this user may not search counts as that directory: a snapshotter's
    is mostly on the file system of containerd's. A path that is not visible here has no account:
    everything is granted.
    """

    def __init__(self, min_free_bytes: int) -> None:
        self.min_free_bytes = min_free_bytes
        self._margin = min(_MARGIN_BYTES, min_free_bytes // _MARGIN_PART)
        self._accounts: dict[int, _Account] = {}
        self._looked: dict[Path, tuple[float, _Account]] = {}
        self._lock = threading.Lock()

    def room_bytes(self, path: Path) -> int | None:
        """Returns the bytes that may still be written; None if that is not known here.

        Less than 0: too little is free already.
        """
        with self._lock:
            found = self._look(path)
            return None if found is None else found[1] - self.min_free_bytes - self._margin

    def check(self, path: Path, needed_bytes: int) -> None:
        """Raises StorageFullError if there is no room for `needed_bytes` more."""
        with self._lock:
            self._check(path, needed_bytes)

    @contextmanager
    def writing(self, path: Path, count: int) -> Iterator[None]:
        """Grants `count` bytes that the caller writes in this context. Raises StorageFullError."""
        blocks = -(-count // _BLOCK_BYTES) * _BLOCK_BYTES
        with self._lock:
            account = self._check(path, blocks)
            if account is not None:
                account.asked_bytes += blocks
        try:
            yield
        finally:
            if account is not None:
                with self._lock:
                    account.asked_bytes -= blocks
                    account.written_bytes += count

    @contextmanager
    def granting(self, path: Path, count: int) -> Iterator[Grant]:
        """Grants bytes that another process writes for us. Raises StorageFullError.

        The grant shrinks at each look at the file system, of any thread.
        """
        grant = Grant(count)
        with self._lock:
            account = self._check(path, count)
            if account is not None:
                account.grants.append(grant)
        try:
            yield grant
        finally:
            if account is not None:
                with self._lock:
                    account.grants.remove(grant)

    def is_passed(self, path: Path) -> bool:
        """Returns True if less than `min_free_bytes` and the margin is free, grants aside.

        So it does if the inodes run out.
        """
        with self._lock:
            found = self._look(path)
        least = self.min_free_bytes + self._margin
        return found is not None and (found[0].free_bytes < least or bool(_lack_of_inodes(path)))

    def _look(self, path: Path) -> tuple[_Account, int] | None:
        """Returns the account of the path's file system, and the bytes that are not granted."""
        try:
            device, free = path.stat().st_dev, free_bytes(path)
        except PermissionError:
            return self._look(path.parent) if path != path.parent else None
        except OSError:
            return None
        account = self._accounts.setdefault(device, _Account())
        self._looked[path] = time.monotonic(), account
        return account, account.saw(free)

    def _check(self, path: Path, needed_bytes: int) -> _Account | None:
        expected = needed_bytes + self.min_free_bytes + self._margin
        looked_at, account = self._looked.get(path, (0.0, _NONE))
        if (
            account.room_bytes > expected + _AMPLE_BYTES
            and time.monotonic() < looked_at + _LOOK_SECONDS
        ):
            return account
        found = self._look(path)
        if found is None:
            return None
        account, room = found
        if room < expected:
            raise StorageFullError(
                f"the file system of {path} needs at least {expected - room} more bytes free "
                f"({account.free_bytes} free, {self.min_free_bytes} are kept by min_free_bytes, "
                f"{account.free_bytes - room} are being written)",
                path=path,
                expected=expected,
                found=room,
            )
        lack = _lack_of_inodes(path)
        if lack:
            raise StorageFullError(lack, path=path)
        return account


def _lack_of_inodes(path: Path) -> str:
    """Returns the text of an error if too few inodes are free, else ""."""
    try:
        stat = os.statvfs(path)
    except OSError:
        return ""
    if not stat.f_files or stat.f_favail >= stat.f_files // _INODE_PART:
        return ""
    return (
        f"the file system of {path} has {stat.f_favail} of {stat.f_files} inodes free, and one in "
        f"{_INODE_PART} stays free: delete files"
    )


def total_bytes(path: Path) -> int:
    """Returns the size of this path's file system in bytes. Raises OSError."""
    stat = os.statvfs(path)
    return stat.f_blocks * stat.f_frsize


def free_bytes(path: Path) -> int:
    """Returns the bytes that an unprivileged user may still write on this path's file system.

    Raises OSError.
    """
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize
