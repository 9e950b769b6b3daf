"""Watched directories: from inotify events and scans to batches of settled and removed files.

`airside.settle` decides; this module waits, asks the operating system and hands over. What always
holds:

- every directory is scanned at the start, every `rescan_seconds`, and after lost events, so that
  inotify only makes things faster;
- where inotify is not to be had, or does not tell all (network and overlay file systems), the
  directory is scanned every `poll_seconds` as well;
- of an absent or unreadable directory nothing is reported, least of all removals;
- scans and stat calls run in a thread, one at a time; `on_batch` is awaited one at a time.

Not recursive: only regular files and symbolic links to them. Left to others: what is in the files,
and files known from the catalog whose directory is no longer watched.
"""

import asyncio
import errno
import logging
import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from asyncinotify import Event, Inotify, Mask

from airside.config import Settings
from airside.settle import Batch, Settled, Settler, StatKey, is_candidate

__all__ = ["Batch", "DirectoryStatus", "Settled", "StatKey", "Watcher", "file_system_of"]

Mode = Literal["inotify", "polling", "absent", "unreadable"]
P = ParamSpec("P")
T = TypeVar("T")

ABSENT_SECONDS = 1.0
"""Between two looks for an absent directory."""
GATHER_SECONDS = 0.05
"""What happens within this time is taken in one step: a burst makes few batches."""

_EVENTS = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.CREATE
    | Mask.DELETE
    | Mask.ATTRIB
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
)
_ADD_WATCH = _EVENTS | Mask.ONLYDIR | Mask.EXCL_UNLINK
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "lustre", "fuse"})
_LIMITS = {
    errno.ENOSPC: "no inotify watch is left: raise sysctl fs.inotify.max_user_watches",
    errno.EMFILE: "no inotify instance is left: raise sysctl fs.inotify.max_user_instances",
    errno.ENFILE: "the host has no open file left: raise sysctl fs.file-max",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """A watched directory, for people. `reason` is empty where all is as it should be."""

    path: Path
    mode: Mode
    reason: str
    files: int


@dataclass(slots=True)
class _Directory:
    path: Path
    mode: Mode = "absent"
    reason: str = "not looked at yet"
    scan_at: float = 0.0
    wd: int | None = None
    device: int | None = None
    own_clock: bool = True
    warned: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Presence:
    """`mode` is None where the directory is there and can be listed."""

    mode: Literal["absent", "unreadable"] | None
    reason: str
    device: int | None = None
    file_system: str = ""


@dataclass(frozen=True, slots=True)
class _Sight:
    """One path at one time. Neither `key` nor `absent`: nothing can be told, wait.

    `lost`: the directory of the path is not there.
    """

    path: Path
    at: float
    wall_ns: int
    key: StatKey | None = None
    linked: bool = False
    absent: bool = False
    lost: bool = False


class Watcher:
    """Watches the directories and awaits `on_batch` with what settled or was removed.

    `known` are the files that the catalog has: unchanged ones are not reported. All methods belong
    to the event loop's thread. `executor` runs scans and stat calls; None: the loop's own.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        settings: Settings,
        known: Mapping[Path, StatKey],
        on_batch: Callable[[Batch], Awaitable[None]],
        *,
        executor: Executor | None = None,
    ) -> None:
        self._directories = {path: _Directory(path) for path in directories}
        self._settings = settings
        self._on_batch = on_batch
        self._executor = executor
        self._settler = Settler(
            settle_seconds=settings.settle_seconds,
            quiet_seconds=settings.quiet_seconds,
            removal_seconds=settings.removal_seconds,
            known=known,
        )
        self._wake = asyncio.Event()
        self._inotify: Inotify | None = None
        self._inotify_reason = ""
        self._inotify_at = 0.0
        self._reader: asyncio.Task[None] | None = None
        self._delivery: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Watch until cancelled. An exception of `on_batch` ends it."""
        try:
            while True:
                self._wake.clear()
                self._raise_failures()
                await self._scan_due()
                await self._look_due()
                self._settler.end_step()
                self._deliver()
                await self._pause()
        finally:
            await self._close()

    def look_again(self, path: Path, *, after_seconds: float) -> None:
        """Report the file again once the time has passed and it is quiet, changed or not."""
        self._settler.look_again(path, time.monotonic() + after_seconds)
        self._wake.set()

    def forget(self, path: Path) -> None:
        """Know nothing of the file: the next scan reports it anew."""
        self._settler.forget(path)

    def rescan(self) -> None:
        """Scan every directory now."""
        for directory in self._directories.values():
            directory.scan_at = 0.0
        self._inotify_at = 0.0
        self._wake.set()

    def describe(self) -> list[DirectoryStatus]:
        """The directories in the order given."""
        return [
            DirectoryStatus(d.path, d.mode, d.reason, len(self._settler.tracked(d.path)))
            for d in self._directories.values()
        ]

    # --- the loop

    async def _pause(self) -> None:
        """Sleep until an event or the next time that something is due; then gather a little."""
        times = [d.scan_at for d in self._directories.values()]
        next_look = self._settler.next_look()
        if next_look is not None:
            times.append(next_look)
        try:
            async with asyncio.timeout(min(times) - time.monotonic() if times else None):
                await self._wake.wait()
        except TimeoutError:
            pass
        await asyncio.sleep(GATHER_SECONDS)

    def _raise_failures(self) -> None:
        if self._reader is not None and self._reader.done():
            self._reader.result()
        if self._delivery is not None and self._delivery.done():
            delivery, self._delivery = self._delivery, None
            delivery.result()

    def _deliver(self) -> None:
        """Hand over what is ready, unless the last batch is still being taken."""
        if self._delivery is not None:
            return
        batch = self._settler.take(time.monotonic(), wall_ns=time.time_ns())
        if batch is not None:
            self._delivery = asyncio.create_task(self._hand_over(batch))
            self._delivery.add_done_callback(lambda _: self._wake.set())

    async def _hand_over(self, batch: Batch) -> None:
        await self._on_batch(batch)

    async def _close(self) -> None:
        tasks = [task for task in (self._reader, self._delivery) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._inotify is not None:
            self._inotify.close()

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: call(*args, **kwargs))

    # --- looking

    async def _look_due(self) -> None:
        paths = self._settler.due(time.monotonic())
        if not paths:
            return
        devices = {d.path: d.device for d in self._directories.values()}
        for sight in await self._in_thread(_look_at, paths, devices):
            directory = self._directories.get(sight.path.parent)
            self._feed(sight, own_clock=directory is None or directory.own_clock)
            if sight.lost and directory is not None:
                directory.scan_at = 0.0

    def _feed(self, sight: _Sight, *, own_clock: bool) -> None:
        if sight.key is not None:
            self._settler.saw_stat(
                sight.path,
                sight.key,
                sight.at,
                wall_ns=sight.wall_ns,
                linked=sight.linked,
                own_clock=own_clock,
            )
        elif sight.absent:
            self._settler.saw_absent(sight.path, sight.at)

    # --- scanning

    async def _scan_due(self) -> None:
        now = time.monotonic()
        for directory in self._directories.values():
            if directory.scan_at <= now:
                await self._scan(directory)

    async def _scan(self, directory: _Directory) -> None:
        directory.scan_at = float("inf")  # an event that comes while we scan asks for another one
        presence = await self._in_thread(_presence, directory.path, directory.device)
        if presence.mode is None:
            reason = self._add_watch(directory, presence)
            directory.device = presence.device
            started_at = time.monotonic()
            try:
                sights = await self._in_thread(_list, directory.path)
            except OSError as exc:
                presence = _no_presence(exc)
            else:
                self._feed_scan(directory, sights, started_at)
                self._set_mode(directory, "polling" if reason else "inotify", reason)
        if presence.mode is not None:
            self._lose(directory, presence.mode, presence.reason)
        directory.scan_at = min(directory.scan_at, time.monotonic() + self._period(directory))

    def _feed_scan(self, directory: _Directory, sights: list[_Sight], started_at: float) -> None:
        for sight in sights:
            self._feed(sight, own_clock=directory.own_clock)
        there = {sight.path for sight in sights}
        for path in self._settler.tracked(directory.path):
            if path not in there:
                self._settler.saw_absent(path, started_at)

    def _period(self, directory: _Directory) -> float:
        if directory.mode == "absent":
            return ABSENT_SECONDS
        if directory.mode == "polling":
            return self._settings.poll_seconds
        return self._settings.rescan_seconds

    def _lose(self, directory: _Directory, mode: Mode, reason: str) -> None:
        """The directory can't be listed: nothing is known of what is in it."""
        self._settler.suspend(directory.path)
        self._drop_watch(directory)
        self._set_mode(directory, mode, reason)

    def _set_mode(self, directory: _Directory, mode: Mode, reason: str) -> None:
        """Remember the mode; warn once of each reason."""
        if reason and reason not in directory.warned:
            directory.warned.add(reason)
            level = logging.INFO if mode == "absent" else logging.WARNING
            _log.log(level, "watched directory %s: %s: %s", directory.path, mode, reason)
        if mode in {"inotify", "polling"} and directory.mode in {"absent", "unreadable"}:
            _log.info("watched directory %s: watched by %s", directory.path, mode)
        directory.mode, directory.reason = mode, reason

    # --- inotify

    def _add_watch(self, directory: _Directory, presence: _Presence) -> str:
        """Watch the directory that is there now, be it the same or another.

        Returns why inotify is not enough; empty: it is.
        """
        kind = presence.file_system
        remote = kind in _REMOTE or kind.startswith("fuse.")
        directory.own_clock = not remote
        reason = self._try_watch(directory)
        if not reason and remote:
            reason = f"{kind}: changes made on other hosts are not announced"
        elif not reason and kind == "overlay":
            reason = "overlay: changes made in its lower layers are not announced"
        return reason

    def _try_watch(self, directory: _Directory) -> str:
        """Why inotify is not to be had; empty: it is."""
        inotify = self._open_inotify()
        if inotify is None:
            return self._inotify_reason
        try:
            wd = inotify.add_watch(directory.path, _ADD_WATCH).wd
        except OSError as exc:
            self._drop_watch(directory)
            return _LIMITS.get(exc.errno or 0, f"inotify: {exc.strerror}")
        if wd != directory.wd:
            self._drop_watch(directory)
            directory.wd = wd
        return ""

    def _open_inotify(self) -> Inotify | None:
        now = time.monotonic()
        if self._inotify is None and now >= self._inotify_at:
            self._inotify_at = now + self._settings.rescan_seconds
            try:
                self._inotify = Inotify(cache_size=256)
            except OSError as exc:
                self._inotify_reason = _LIMITS.get(exc.errno or 0, f"inotify: {exc.strerror}")
            else:
                self._reader = asyncio.create_task(self._read(self._inotify))
                self._reader.add_done_callback(lambda _: self._wake.set())
        return self._inotify

    def _drop_watch(self, directory: _Directory) -> None:
        wd, directory.wd = directory.wd, None
        if self._inotify is None or wd is None or any(d.wd == wd for d in self._others(directory)):
            return
        for watch in self._inotify.watches:
            if watch.wd == wd:
                try:
                    self._inotify.rm_watch(watch)
                except OSError as exc:
                    _log.debug("watch of %s is gone already: %s", directory.path, exc)

    def _others(self, directory: _Directory) -> Iterable[_Directory]:
        return (d for d in self._directories.values() if d is not directory)

    async def _read(self, inotify: Inotify) -> None:
        async for event in inotify:
            self._saw(event)

    def _saw(self, event: Event) -> None:
        if Mask.Q_OVERFLOW in event.mask:
            _log.info("inotify lost events: every watched directory is scanned")
            self.rescan()
        elif event.watch is not None:
            for directory in self._directories.values():
                if directory.wd == event.watch.wd:
                    self._saw_in(directory, event)

    def _saw_in(self, directory: _Directory, event: Event) -> None:
        if event.name is None:  # the directory itself
            if Mask.IGNORED in event.mask:
                directory.wd = None
            directory.scan_at = 0.0
        elif Mask.ISDIR in event.mask or not is_candidate(event.name.name):
            return
        else:
            saw = _SAW.get(event.mask & _EVENTS, Settler.saw_change)
            saw(self._settler, directory.path / event.name, time.monotonic())
        self._wake.set()


_SAW: Mapping[int, Callable[[Settler, Path, float], None]] = {
    Mask.CLOSE_WRITE: Settler.saw_close,
    Mask.MOVED_TO: Settler.saw_move,
    Mask.CREATE: Settler.saw_create,
}


# --- the operating system: these block, and run in a thread


def _presence(path: Path, device: int | None) -> _Presence:
    """Whether the directory is there. `device`: its file system when last seen."""
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            return _Presence("absent", "is not a directory")
        if device not in {None, found.st_dev} and not path.is_mount() and not any(path.iterdir()):
            return _Presence("absent", "is empty, on another file system than before: unmounted?")
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as exc:
        return _no_presence(exc)
    return _Presence(None, "", found.st_dev, file_system_of(os.path.realpath(path), mounts))


def _no_presence(exc: OSError) -> _Presence:
    if isinstance(exc, FileNotFoundError):
        return _Presence("absent", "does not exist")
    if isinstance(exc, PermissionError):
        return _Presence("unreadable", "permission denied: make it readable for the agent")
    return _Presence("absent", exc.strerror or str(exc))


def file_system_of(path: str, mountinfo: str) -> str:
    """The type of the file system that an absolute real path lies on; empty if unknown."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4].encode("utf-8", "surrogateescape")
        for code in (b"\\040", b"\\011", b"\\012", b"\\134"):  # proc(5): octal escapes
            point = point.replace(code, bytes([int(code[1:], 8)]))
        mount = os.fsdecode(point).rstrip("/")
        if len(mount) >= best and (path == mount or path.startswith(mount + "/")):
            best, kind = len(mount), rest.split(" ")[0]
    return kind


def _list(directory: Path) -> list[_Sight]:
    """Every candidate in the directory that is there or that may come (a dangling link)."""
    if not os.access(directory, os.R_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
    with os.scandir(directory) as entries:
        sights = [_sight(Path(entry.path)) for entry in entries if is_candidate(entry.name)]
    return [sight for sight in sights if not sight.absent]


def _look_at(paths: Iterable[Path], devices: Mapping[Path, int | None]) -> list[_Sight]:
    """Stat each path; what is absent with its whole directory is not told to be absent."""
    sights = [_sight(path) for path in paths]
    parents = {sight.path.parent for sight in sights if sight.absent}
    lost = {parent for parent in parents if _presence(parent, devices.get(parent)).mode}
    return [
        replace(sight, absent=False, lost=True) if sight.path.parent in lost else sight
        for sight in sights
    ]


def _sight(path: Path) -> _Sight:
    at, wall_ns = time.monotonic(), time.time_ns()
    try:
        found = path.lstat()
        link = stat.S_ISLNK(found.st_mode)
    except FileNotFoundError:
        return _Sight(path, at, wall_ns, absent=True)
    except OSError:
        return _Sight(path, at, wall_ns)
    try:
        found = path.stat() if link else found
    except OSError:  # dangling
        return _Sight(path, at, wall_ns)
    if not stat.S_ISREG(found.st_mode):
        return _Sight(path, at, wall_ns, absent=True)
    linked = link or found.st_nlink > 1
    return _Sight(path, at, wall_ns, key=StatKey.of(found), linked=linked)
