"""Watches directories: turns inotify events and scans into batches of settled and removed archives.

`airside.importer.watch.settle` decides, `airside.importer.watch.scan` reads directories,
`airside.importer.watch.inotify` receives events; this module schedules them. What always holds:

- every directory is scanned at the start, every `rescan_seconds`, after lost events and when
  something is mounted or unmounted there, so that inotify only makes things faster;
- where inotify is not available, or does not report every change (network and overlay file
  systems), the directory is scanned every `poll_seconds` as well;
- of a directory that is absent, unreadable or unmounted nothing is reported, least of all removals;
- each directory uses one thread at most, so that one that does not answer delays no other;
  `on_batch` is awaited one at a time.

Left to others: what is in the archives, and those known from the catalog that lie in no watched
directory.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from asyncinotify import Event

from airside.archive.beneath import ANYWHERE
from airside.archive.stat_key import StatKey
from airside.core.paths import is_within
from airside.core.settings import Settings, WatchedDirectory
from airside.importer.watch.directories import (
    WatchedDirectories,
)
from airside.importer.watch.directory_state import (
    DirectoryState,
    DirectoryStatus,
    Mode,
    directory_states,
    is_in_any,
    mount_points,
)
from airside.importer.watch.events import apply_event
from airside.importer.watch.inotify import MountEvents, Notifier
from airside.importer.watch.mount_table import Remembered
from airside.importer.watch.scan import (
    MOUNTINFO,
    Bounds,
    ScanResult,
    mounts_of,
    observe,
    scan_directory,
    unreadable_places,
)
from airside.importer.watch.settle import Batch, Settled, Settler

__all__ = ["Batch", "DirectoryStatus", "Settled", "StatKey", "Watcher"]

T = TypeVar("T")
OnBatch = Callable[[Batch], Awaitable[None]]

ABSENT_SECONDS = 1.0
"""Time between two checks for an absent directory."""
GATHER_SECONDS = 0.05
"""Events within this time are handled in one step: a burst makes few batches."""
_GLANCE_SECONDS = 0.005
"""An event that no other follows within this time is no burst: a rename into place."""
PATIENCE_SECONDS = 5.0
"""The time that one directory may take for a scan or a check before the others continue."""
MOUNT_SECONDS = 1.0
"""Time between two readings of the mount table: a host that starts containers mounts often."""

_AT_ONCE = 200
"""Observations that are taken before others may use the event loop."""
_NEVER = float("inf")

log = logging.getLogger("airside.watch")


class Watcher:
    """Watches directories and reports settled and removed archives.

    `known`: the catalog's archives; unchanged ones are not reported. `mounted`: their mounts;
    `on_mounts` is awaited with the new mounts when they change. All
    methods belong to the event loop's thread.
    """

    def __init__(
        self,
        directories: Sequence[WatchedDirectory],
        settings: Settings,
        known: Mapping[Path, StatKey],
        *,
        mounted: Remembered | None = None,
        on_mounts: Callable[[Remembered], Awaitable[None]] | None = None,
    ) -> None:
        self._places = WatchedDirectories(directories)
        self._directories = directory_states(directories, self._places, settings.limits.watches)
        for path in self._directories.keys() & (mounted or {}):
            mounts = self._directories[path].mounts = (mounted or {})[path]
            self._directories[path].found = ScanResult(mounts=mounts)
        self._on_mounts = on_mounts
        self._elsewhere = DirectoryState(Path("/"), False, frozenset(), ANYWHERE)
        """Archives imported by hand, which are checked only on request."""
        self._settings = settings
        self._settler = Settler(
            settle_seconds=settings.settle_seconds,
            quiet_seconds=settings.quiet_seconds,
            removal_seconds=settings.removal_seconds,
            known=known,
            most=settings.limits.archives * len(self._directories),
        )
        self._wake = asyncio.Event()
        self._threads = ThreadPoolExecutor(len(self._directories) + 1, "watch")
        self._notifier = Notifier(self._saw, self.rescan, retry_seconds=settings.rescan_seconds)
        self._mounts_at = _NEVER
        self._delivery: asyncio.Task[None] | None = None

    async def run(self, on_batch: OnBatch) -> None:
        """Watch until cancelled; await `on_batch` with each batch. Raises its exceptions."""
        with ExitStack() as stack:
            self._hear_mounts(stack)
            try:
                while True:
                    self._wake.clear()
                    self._raise_failures()
                    await self._check_mounts()
                    await self._scan_due()
                    await self._look_due()
                    self._settler.end_step()
                    self._deliver(on_batch)
                    await self._pause()
            finally:
                await self._close()

    def look_again(self, path: Path, *, after_seconds: float) -> None:
        """Report the file again once the time has passed and it is quiet, changed or not."""
        self._settler.look_again(path, time.monotonic() + after_seconds)
        self._wake.set()

    def forget(self, path: Path) -> None:
        """Forget the file: the next scan reports it again."""
        self._settler.forget(path)

    def rescan(self) -> None:
        """Scan every directory now."""
        for directory in self._directories.values():
            directory.scan_at = 0.0
        self._notifier.reopen()
        self._wake.set()

    def describe(self) -> list[DirectoryStatus]:
        """Returns the directories in the order of the settings."""
        found = self._directories.values()
        return [DirectoryStatus(d.path, d.mode, d.reason, len(self._tracked(d))) for d in found]

    def unsettled(self) -> int:
        """The number of changes that were noticed and not handed over yet."""
        now = time.monotonic()
        busy = sum(d.busy is not None or d.scan_at <= now for d in self._directories.values())
        busy += self._elsewhere.busy is not None
        open_ones = (self._notifier.has_unread, self._delivery is not None)
        return self._settler.unsettled() + busy + sum(open_ones)

    # --- the loop

    async def _pause(self) -> None:
        """Sleep until an event or the next due time; then wait a moment for more events."""
        times = [d.due_at for d in self._directories.values() if d.busy is None]
        next_look = self._settler.next_look()
        at = min(*times, self._mounts_at, _NEVER if next_look is None else next_look)
        try:
            async with asyncio.timeout(None if at == _NEVER else at - time.monotonic()):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        for seconds in (_GLANCE_SECONDS, GATHER_SECONDS):
            await asyncio.sleep(seconds)
            if not self._wake.is_set():
                break

    def _raise_failures(self) -> None:
        self._notifier.check()
        for directory in (*self._directories.values(), self._elsewhere):
            if directory.busy is not None and directory.busy.done():
                task, directory.busy = directory.busy, None
                task.result()
        if self._delivery is not None and self._delivery.done():
            delivery, self._delivery = self._delivery, None
            delivery.result()

    def _deliver(self, on_batch: OnBatch) -> None:
        """Start to deliver the next batch, unless the last one is still being delivered."""
        if self._delivery is not None:
            return
        batch = self._settler.take(time.monotonic(), wall_ns=time.time_ns())
        if batch is not None:
            self._delivery = asyncio.create_task(_hand_over(on_batch, batch))
            self._delivery.add_done_callback(lambda _: self._wake.set())

    async def _close(self) -> None:
        directories = (*self._directories.values(), self._elsewhere)
        tasks = [d.busy for d in directories if d.busy is not None]
        if self._delivery is not None:
            tasks.append(self._delivery)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._notifier.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _side_by_side(self, work: Iterable[tuple[DirectoryState, Awaitable[None]]]) -> None:
        """Work in several directories at the same time. Slow ones continue in the background."""
        tasks = {}
        for directory, awaitable in work:
            directory.busy = task = asyncio.ensure_future(awaitable)
            task.add_done_callback(lambda _: self._wake.set())
            tasks[task] = directory
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
        for task in late:
            tasks[task].set_mode("unreadable", "its file system does not answer")
        self._raise_failures()

    # --- looking

    async def _look_due(self) -> None:
        """Check the paths that are due, in all watched directories at the same time."""
        paths: dict[Path, list[Path]] = {}
        for path in self._settler.due(time.monotonic()):
            owner = self._places.owner(path)
            paths.setdefault(owner.path if owner else self._elsewhere.path, []).append(path)
        work = []
        for place, due in paths.items():
            directory = self._directories.get(place, self._elsewhere)
            if directory.busy is None:
                work.append((directory, self._look(directory, due)))
            else:
                directory.scan_at = 0.0  # it is scanned once it answers
        await self._side_by_side(work)

    async def _look(self, directory: DirectoryState, paths: list[Path]) -> None:
        found = directory.found
        observations = await self._in_thread(
            partial(observe, paths, found.mounts, directory.beneath)
        )
        places: frozenset[Path] = frozenset()
        if found.mounts and any(each.absent for each in observations):
            places = await self._in_thread(
                partial(unreadable_places, directory.path, found.real, found.mounts)
            )
        if places or any(each.linked for each in observations):  # a link may lead elsewhere now
            directory.scan_at = 0.0
        for count, each in enumerate(observations, 1):
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if not directory.is_listed(each.path):
                each = replace(each, key=None, absent=True)  # noqa: PLW2901 - as a scan reports it
            elif each.absent and each.path in found.directories:  # it was a layout directory
                directory.scan_at = 0.0
            hidden = each.absent and (directory.hides(each.path) or is_in_any(each.path, places))
            self._settler.saw(replace(each, absent=False) if hidden else each)

    # --- scanning

    async def _scan_due(self) -> None:
        now = time.monotonic()
        due = [directory for directory in self._directories.values() if directory.is_due(now)]
        await self._side_by_side((directory, self._scan(directory)) for directory in due)

    async def _scan(self, directory: DirectoryState) -> None:
        directory.scan_at = _NEVER  # an event that comes while we scan asks for another one
        self._notifier.watch(directory.path, directory.watched or [directory.path])
        limits, known = self._settings.limits, frozenset(self._tracked(directory))
        found = await self._in_thread(
            partial(
                scan_directory,
                directory.beneath,
                recursive=directory.recursive,
                others=directory.others,
                before=directory.found.mounts,
                bounds=Bounds(limits.archives, limits.watches, known),
            )
        )
        if found.absence is None:
            before = mount_points(directory.mounts)
            await self._take(directory, found)
            if self._on_mounts is not None and before != mount_points(directory.mounts):
                await self._on_mounts({d.path: d.mounts for d in self._directories.values()})
        else:
            self._lose(directory, found.absence, found.reason)
        directory.scan_at = min(
            directory.scan_at, time.monotonic() + _period(directory.mode, self._settings)
        )

    async def _take(self, directory: DirectoryState, found: ScanResult) -> None:
        """Update the state from the result of a scan."""
        there = {observation.path for observation in found.observations}
        missing = [path for path in self._tracked(directory) if path not in there]
        directory.replace_found(found, missing)
        for count, observation in enumerate(found.observations, 1):
            self._settler.saw(observation)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
        for path in missing:
            if directory.hides(path):
                self._settler.suspend(path)
            else:
                self._settler.saw_absent(path, found.started_at)
        reason = self._watch(directory) or directory.unannounced_reason()
        unread = [f"{path}: {why}" for path, why in found.unread.items()]
        for text in unread:
            directory.warn_once(text)
        others = (reason, found.hint, *unread, directory.away_reason())
        shown = next(filter(None, (found.excess, *others)), "")
        directory.set_mode("polling" if reason else "inotify", shown)

    def _watch(self, directory: DirectoryState) -> str:
        """Watch the found directories. Returns the reason why inotify is not available, or ""."""
        reason, is_new = self._notifier.watch(directory.path, directory.watched)
        if is_new:  # something may have happened in it before
            directory.scan_at = 0.0
        return reason

    def _tracked(self, directory: DirectoryState) -> list[Path]:
        """Returns the remembered archives of this directory."""
        paths = self._settler.tracked(directory.path)
        if not directory.others:
            return paths
        return [p for p in paths if not any(is_within(p, other) for other in directory.others)]

    def _lose(self, directory: DirectoryState, mode: Mode, reason: str) -> None:
        """Record that the directory can't be listed: its archives are unknown for now."""
        for path in self._tracked(directory):
            self._settler.suspend(path)
        self._notifier.drop(directory.path)
        directory.set_mode(mode, reason)

    # --- mounts

    def _hear_mounts(self, stack: ExitStack) -> None:
        try:
            stack.enter_context(MountEvents(MOUNTINFO, self._saw_mount))
        except OSError as exc:
            log.warning(
                "mount events are not available: %s; mounts are found by the periodic scan", exc
            )

    def _saw_mount(self) -> None:
        if self._mounts_at == _NEVER:
            self._mounts_at = time.monotonic() + MOUNT_SECONDS
            self._wake.set()

    async def _check_mounts(self) -> None:
        """Scan the directories whose mounts changed."""
        if time.monotonic() < self._mounts_at:
            return
        self._mounts_at = _NEVER
        for directory in self._directories.values():
            found = directory.found
            try:
                same = found.mounts == mounts_of(directory.path, found.real)
            except OSError as exc:
                log.debug("the mount table can't be read: %s", exc)
                continue
            if found.mounts and not same:
                directory.scan_at = 0.0

    # --- events

    def _saw(self, owner: Path, where: Path, event: Event) -> None:
        apply_event(self._settler, self._directories, owner, where, event)
        self._wake.set()


async def _hand_over(on_batch: OnBatch, batch: Batch) -> None:
    await on_batch(batch)


def _period(mode: Mode, settings: Settings) -> float:
    """Returns the seconds between two scans."""
    if mode == "absent":
        return ABSENT_SECONDS
    if mode in {"polling", "unreadable"}:
        return settings.poll_seconds
    return settings.rescan_seconds
