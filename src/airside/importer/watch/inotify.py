"""inotify watches and mount events. Async.

inotify only makes things faster: the caller scans as well, and gets the reason when inotify is not
available. A watch follows its directory, not the path: watch the paths again at each scan.
"""

import asyncio
import errno
import fcntl
import logging
import os
import select
import termios
import time
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from asyncinotify import Event, Inotify, Mask, Watch

EVENTS = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.CREATE
    | Mask.DELETE
    | Mask.ATTRIB
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
)
_ADD_WATCH = EVENTS | Mask.ONLYDIR | Mask.EXCL_UNLINK
_LIMITS = {
    errno.ENOSPC: "no inotify watch is left: raise sysctl fs.inotify.max_user_watches",
    errno.EMFILE: "no inotify instance is left: raise sysctl fs.inotify.max_user_instances",
    errno.ENFILE: "the host has no open file left: raise sysctl fs.file-max",
}
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES})
"""Errors that the next scan reports: the directory is absent or may not be read."""

_AT_ONCE = 100
"""Events that are handled before others may use the event loop."""

log = logging.getLogger("airside.watch")

OnEvent = Callable[[Path, Path, Event], None]
"""Called with the watched directory (owner), the directory in it, and the event."""


class Notifier:
    """The inotify watches of all watched directories. Belongs to the event loop's thread."""

    def __init__(
        self, on_event: OnEvent, on_lost: Callable[[], None], *, retry_seconds: float
    ) -> None:
        self._on_event, self._on_lost, self._retry_seconds = on_event, on_lost, retry_seconds
        self._inotify: Inotify | None = None
        self._reason = ""
        self._open_at = 0.0
        self._reader: asyncio.Task[None] | None = None
        self._paths: dict[int, set[tuple[Path, Path]]] = {}
        self._watches: dict[int, Watch] = {}
        self._numbers: dict[Path, dict[Path, int]] = {}

    def watch(self, owner: Path, directories: Iterable[Path]) -> tuple[str, bool]:
        """Watch exactly these directories for the owner; absent ones are skipped.

        Returns the reason why inotify is not available, or ""; and True if a directory was not
        watched before, so that an event in it may have been missed.
        """
        before = self._numbers.get(owner, {})
        inotify = self._open()
        if inotify is None:
            return self._reason, False
        now: dict[Path, int] = {}
        reason = ""
        for path in directories:
            try:
                watch = inotify.add_watch(path, _ADD_WATCH)
            except OSError as exc:
                if exc.errno in _GONE:
                    continue
                reason = _LIMITS.get(exc.errno or 0, f"inotify: {exc.strerror}")
                break
            now[path] = watch.wd
            self._watches[watch.wd] = watch
        self._replace(owner, before, now)
        return reason, any(before.get(path) != number for path, number in now.items())

    def drop(self, owner: Path) -> None:
        """Watch nothing for the owner."""
        self._replace(owner, self._numbers.get(owner, {}), {})

    def _replace(self, owner: Path, before: dict[Path, int], now: dict[Path, int]) -> None:
        self._numbers[owner] = now
        for path, number in now.items():
            self._paths.setdefault(number, set()).add((owner, path))
        for path, number in before.items():
            if now.get(path) != number:
                self._release(number, owner, path)

    def _release(self, number: int, owner: Path, path: Path) -> None:
        users = self._paths.get(number)
        if users is None:  # inotify dropped it already
            return
        users.discard((owner, path))
        if users or self._inotify is None:
            return
        del self._paths[number]
        try:
            self._inotify.rm_watch(self._watches.pop(number))
        except OSError as exc:
            log.debug("watch of %s is gone already: %s", path, exc)

    def reopen(self) -> None:
        """Try at once to open inotify, if it was not available."""
        self._open_at = 0.0

    def _open(self) -> Inotify | None:
        now = time.monotonic()
        if self._inotify is None and now >= self._open_at:
            self._open_at = now + self._retry_seconds
            try:
                self._inotify = Inotify(cache_size=256)
            except OSError as exc:
                self._reason = _LIMITS.get(exc.errno or 0, f"inotify: {exc.strerror}")
            else:
                self._reader = asyncio.create_task(self._read(self._inotify))
        return self._inotify

    async def _read(self, inotify: Inotify) -> None:
        count = 0
        async for event in inotify:
            self.saw(event)
            count += 1
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)  # a flood of events leaves the loop to others

    def saw(self, event: Event) -> None:
        """Report an event to the owners of its directory."""
        if Mask.Q_OVERFLOW in event.mask:
            log.info("inotify lost events: every watched directory is scanned")
            self._on_lost()
            return
        number = event.watch.wd if event.watch is not None else -1
        for owner, path in list(self._paths.get(number, ())):
            if Mask.IGNORED in event.mask:
                self._numbers[owner].pop(path, None)
            self._on_event(owner, path, event)
        if Mask.IGNORED in event.mask:
            self._paths.pop(number, None)
            self._watches.pop(number, None)

    @property
    def has_unread(self) -> bool:
        """True if the kernel has events that were not read yet."""
        if self._inotify is None:
            return False
        count = array("i", [0])
        fcntl.ioctl(self._inotify.fd, termios.FIONREAD, count)
        return count[0] > 0

    def check(self) -> None:
        """Raise the exception that ended the reading of events, if it ended."""
        if self._reader is not None and self._reader.done():
            self._reader.result()

    async def close(self) -> None:
        """Close all watches."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._inotify is not None:
            self._inotify.close()


class MountEvents:
    """Calls back when something is mounted or unmounted (proc(5): mountinfo can be polled).

    A poll of the file reports a change once, so the file has an epoll of its own: the event loop
    would wait for readability, and the file is always readable.
    """

    def __init__(self, path: Path, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()

    def __enter__(self) -> Self:
        self._epoll.register(self._file, select.EPOLLPRI)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._saw)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._file)

    def _saw(self) -> None:
        self._epoll.poll(0)
        self._on_change()
