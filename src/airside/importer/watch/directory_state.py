"""The state of one watched directory: mode, last scan, mounts, and archives that are away."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from airside.archive.beneath import Beneath
from airside.archive.formats.parts import part_of
from airside.core.paths import is_within
from airside.core.settings import WatchedDirectory
from airside.importer.watch.directories import WatchedDirectories, beneath
from airside.importer.watch.mount_table import Mount
from airside.importer.watch.scan import ScanResult, Target, unmounted

log = logging.getLogger("airside.watch")

_REST = 4.0
"""The rest after a scan, in times of its duration."""

Mode = Literal["inotify", "polling", "absent", "unreadable"]
NOT_LOOKED_AT = "not looked at yet"
"""The reason of a directory before its first scan."""


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """The status of a watched directory. `reason` is empty if nothing is wrong."""

    path: Path
    mode: Mode
    reason: str
    files: int


@dataclass(slots=True)
class DirectoryState:
    """One watched directory: the last scan's result, the time of the next scan, the running task.

    `beneath`: where its paths may lead. `away`: archives whose file system was unmounted: they do
    not count as removed. `mounts`: the mounts on which all known archives were found.
    """

    path: Path
    recursive: bool
    others: frozenset[Path]
    beneath: Beneath
    mode: Mode = "absent"
    reason: str = NOT_LOOKED_AT
    scan_at: float = 0.0
    rest_until: float = 0.0
    """No scan begins before: one that takes long leaves time to others."""
    max_watches: int = sys.maxsize
    found: ScanResult = field(default_factory=ScanResult)
    watched: Sequence[Path] = ()
    links: dict[Target, set[Path]] = field(default_factory=dict)
    away: set[Path] = field(default_factory=set)
    mounts: Mapping[Path, Mount] = field(default_factory=dict)
    busy: asyncio.Task[None] | None = None
    warned: set[str] = field(default_factory=set)
    is_watched_whole: bool = True

    def hides(self, path: Path) -> bool:
        """Returns True if nothing is known of the path for now: it is unmounted or unreadable."""
        return path in self.away or is_in_any(path, self.found.unread)

    @property
    def due_at(self) -> float:
        """The time at which the next scan may begin."""
        return max(self.scan_at, self.rest_until)

    def is_due(self, now: float) -> bool:
        """Returns True if a scan may begin now."""
        return self.busy is None and self.due_at <= now

    def saw_part(self, name: str) -> None:
        """Scan the directory soon if a file is a part: its archive goes by the first one."""
        if part_of(name) is not None:
            self.scan_at = 0.0

    def is_listed(self, path: Path) -> bool:
        """Returns True if a scan reports the path: it is not part of a layout directory."""
        directories = self.found.directories
        return not directories or directories.get(path.parent, path) is None

    def set_mode(self, mode: Mode, reason: str) -> None:
        """Set mode and reason; log each reason once."""
        if reason:
            self.warn_once(reason, mode)
        if mode in {"inotify", "polling"} and self.mode in {"absent", "unreadable"}:
            log.info("watched directory %s: watched by %s", self.path, mode)
        self.mode, self.reason = mode, reason

    def warn_once(self, reason: str, mode: str = "") -> None:
        """Log a reason unless it was logged before."""
        if reason not in self.warned:
            self.warned.add(reason)
            level = logging.INFO if mode == "absent" else logging.WARNING
            text = f"{mode}: {reason}" if mode else reason
            log.log(level, "watched directory %s: %s", self.path, text)

    def replace_found(self, found: ScanResult, missing: Sequence[Path]) -> None:
        """Take the result of a scan. `missing`: the known archives that it did not find.

        Those whose file system was unmounted since the last scan are `away`.
        """
        before = self.found.mounts
        present = {observation.path for observation in found.observations}
        self.rest_until = time.monotonic() + _REST * found.seconds
        if before:
            gone, back = unmounted(before, found.mounts), unmounted(found.mounts, before)
            self.away = {path for path in self.away if not is_in_any(path, back)}
            self.away |= {path for path in missing if is_in_any(path, gone)}
        self.away -= present
        gone = unmounted(self.mounts, found.mounts)
        kept = {p for p in gone if any(is_within(path, p) for path in self.away)}
        self.mounts = {**found.mounts, **{place: self.mounts[place] for place in kept}}
        self.found = found
        self.links = _links(found.targets)
        targets = (where for where, _ in self.links)
        wanted = dict.fromkeys((*found.directories, *targets))
        self.watched = list(islice(wanted, self.max_watches))
        self.is_watched_whole = len(wanted) <= self.max_watches

    def away_reason(self) -> str:
        """Returns the reason why known archives are away, or ""."""
        if not self.away:
            return ""
        return f"{len(self.away)} known archives lie on a file system that is not mounted now"

    def unannounced_reason(self) -> str:
        """Returns the reason why inotify does not report every change, or ""."""
        if not self.is_watched_whole:
            return (
                f"it has more than {self.max_watches} directories and places of link targets "
                "(limits.watches): the others are only scanned"
            )
        for path, mount in self.found.mounts.items():
            if path not in self.found.directories:
                continue
            if mount.is_remote:
                return f"{mount.kind}: changes made on other hosts are not announced"
            if mount.kind == "overlay":
                return "overlay: changes made in its lower layers are not announced"
        return ""


def directory_states(
    directories: Iterable[WatchedDirectory], places: WatchedDirectories, max_watches: int
) -> dict[Path, DirectoryState]:
    """Returns the state of each watched directory before its first scan."""
    return {
        d.path: DirectoryState(
            d.path, d.recursive, places.inside(d.path), beneath(d), max_watches=max_watches
        )
        for d in directories
    }


def is_in_any(path: Path, directories: Iterable[Path]) -> bool:
    """Returns True if the path is, or lies in, one of the directories."""
    return any(is_within(path, directory) for directory in directories)


def mount_points(mounts: Mapping[Path, Mount]) -> set[tuple[Path, str, str]]:
    """Returns the mounts as values that can be compared between scans."""
    return {(place, mount.point, mount.kind) for place, mount in mounts.items()}


def _links(targets: Mapping[Path, Iterable[Target]]) -> dict[Target, set[Path]]:
    links: dict[Target, set[Path]] = {}
    for link, names in targets.items():
        for target in names:
            links.setdefault(target, set()).add(link)
    return links
