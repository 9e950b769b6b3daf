"""Scans a watched directory with listings and stat calls. Blocking; runs in a thread.

A scan returns every archive in the directory, what to watch for their changes (directories,
targets of symbolic links), and what could not be read. Nothing is reported of unreadable places,
least of all that an archive is absent. Symbolic links to archives are followed as
`airside.archive.beneath` allows, those to directories only where the directory is itself an
archive. A link that may not be followed is an archive with the stat key of the link, which the
import then rejects.
"""

import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from airside.archive.beneath import Beneath, Opened
from airside.archive.directory import is_archive_directory, iter_directories, stat_key
from airside.archive.formats.parts import later_parts, part_of
from airside.archive.open_parts import first_part, joined_key
from airside.archive.stat_key import StatKey
from airside.core.errors import ArchiveError, LinkRefusedError
from airside.core.paths import is_within
from airside.importer.watch.directories import is_candidate, is_candidate_directory
from airside.importer.watch.mount_table import Mount, MountTable
from airside.importer.watch.settle import Observation

MOUNTINFO = Path("/proc/self/mountinfo")
_LINKS, _NAMES = 40, 512
"""The most symbolic links that are followed from one name, as in Linux, and names on the way."""
_NAMES_FOR_EACH = 10
_UNBOUNDED = 1 << 40
_UNPACKED = frozenset({"oci-layout", "blobs"})

Absence = Literal["absent", "unreadable"]
Target = tuple[Path, str]
"""A directory and a name in it to which a symbolic link leads, directly or on its way."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The parts of a watched directory that are looked at: so many archives, and all known ones.

    `links`: the number of symbolic links whose targets are found out, to be watched.
    """

    archives: int = _UNBOUNDED
    links: int = _UNBOUNDED
    known: frozenset[Path] = frozenset()

    @property
    def names(self) -> int:
        """The number of names that are read, archives or not."""
        return _NAMES_FOR_EACH * self.archives


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The result of a scan. `absence` is None if the directory can be listed.

    `directories`: the listed ones, with the archive directory that each is part of, or None.
    `targets`: what to watch for each link. `mounts`: the mount of the directory itself and those
    below it. `unread`: unreadable directories in it, with the reason. `hint`: a warning.
    `excess`: why a part was not looked at, or "". `seconds`: how long the scan took.
    """

    absence: Absence | None = None
    reason: str = ""
    started_at: float = 0.0
    real: Path = Path()
    observations: tuple[Observation, ...] = ()
    directories: Mapping[Path, Path | None] = field(default_factory=dict)
    targets: Mapping[Path, frozenset[Target]] = field(default_factory=dict)
    mounts: Mapping[Path, Mount] = field(default_factory=dict)
    unread: Mapping[Path, str] = field(default_factory=dict)
    hint: str = ""
    excess: str = ""
    seconds: float = 0.0


def scan_directory(
    beneath: Beneath,
    *,
    recursive: bool,
    others: frozenset[Path],
    before: Mapping[Path, Mount],
    bounds: Bounds = Bounds(),
) -> ScanResult:
    """Scan a watched directory, the root of `beneath`, within the bounds.

    `others`: watched directories inside this one, which are left out. `before`: the mounts at
    the last scan.
    """
    path = beneath.root
    assert path is not None
    started_at = time.monotonic()
    try:
        with beneath.open(path) as opened:
            if not stat.S_ISDIR(opened.stat().st_mode):
                return ScanResult("absent", "is not a directory")
            real = Path(os.path.realpath(path))
            mounts = mounts_of(path, real)
            is_empty = not os.listdir(opened.descriptor)  # noqa: PTH208 - a descriptor
            if is_empty and path in unmounted(before, mounts):
                return ScanResult("absent", "is empty, its file system is not mounted any more")
        walk = _Walk(beneath, path, bounds, recursive=recursive, others=others, mounts=mounts)
        walk.run()
    except OSError as exc:
        return ScanResult(*_why(exc))
    except LinkRefusedError as exc:
        return ScanResult("unreadable", exc.message)
    except ArchiveError:
        return ScanResult("absent", "is not a directory")
    return ScanResult(
        started_at=started_at,
        real=real,
        observations=tuple(walk.observations),
        directories=walk.directories,
        targets=walk.targets,
        mounts=walk.mounts,
        unread=walk.unread,
        hint=walk.hint,
        excess=walk.excess,
        seconds=time.monotonic() - started_at,
    )


def _why(exc: OSError) -> tuple[Absence, str]:
    if isinstance(exc, FileNotFoundError):
        return "absent", "does not exist"
    if isinstance(exc, PermissionError):
        return "unreadable", "permission denied: make it readable for the agent"
    return "absent", exc.strerror or str(exc)


def mounts_of(path: Path, real: Path) -> dict[Path, Mount]:
    """Returns the mount of a watched directory by its path, and the mounts below it by theirs.

    `real` is the path without symbolic links. Raises OSError.
    """
    table = MountTable.parse(MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape"))
    below = {path / Path(m.point).relative_to(real): m for m in table.below(str(real))}
    return {path: table.covering(str(real)), **below}


def observe(
    paths: Iterable[Path], mounts: Mapping[Path, Mount], beneath: Beneath
) -> list[Observation]:
    """Stat one path after the other. `unreadable_places` has the unmounted ones."""
    return [_observe(path, mounts, beneath) for path in paths]


def unreadable_places(path: Path, real: Path, before: Mapping[Path, Mount]) -> frozenset[Path]:
    """Returns the places of a watched directory that can't be read now: itself, or mounts below."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return frozenset({path})
        now = mounts_of(path, real)
    except OSError:
        return frozenset({path})
    return unmounted(before, now)


def unmounted(before: Mapping[Path, Mount], now: Mapping[Path, Mount]) -> frozenset[Path]:
    """Returns the places where something was mounted and nothing is now.

    The directory's own mount counts if its point was the directory or above it.
    """
    gone = {path for path in before if path not in now}
    gone |= {
        path
        for path, mount in before.items()
        if path in now and len(now[path].point) < len(mount.point)
    }
    return frozenset(gone)


def link_targets(link: Path) -> frozenset[Target]:
    """Returns every name on which a symbolic link depends: links on the way, and the file.

    The link itself is left out: it is in the watched directory. Never raises.
    """
    found: set[Target] = set()
    start = here = Path(os.path.realpath(link.parent))
    rest, follows, names = [link.name], 0, 0
    while rest and names < _NAMES:
        name = rest.pop(0)
        names += 1
        if name == "..":
            here = here.parent
            continue
        path = here / name
        try:
            leads = path.readlink()
        except OSError:  # no link, or not there
            if not rest:
                found.add((here, name))
            here = path
            continue
        follows += 1
        if follows > _LINKS:
            break
        found.add((here, name))
        if leads.is_absolute():
            here = Path("/")
        rest = [part for part in leads.parts if part != "/"] + rest
    return frozenset(found - {(start, link.name)})


class _Walk:
    """One walk through a watched directory; the results are its attributes."""

    def __init__(
        self,
        beneath: Beneath,
        root: Path,
        bounds: Bounds,
        *,
        recursive: bool,
        others: frozenset[Path],
        mounts: dict[Path, Mount],
    ) -> None:
        self.beneath, self.root, self.bounds = beneath, root, bounds
        self.recursive, self.others, self.mounts = recursive, others, mounts
        self.observations: list[Observation] = []
        self.directories: dict[Path, Path | None] = {}
        self.targets: dict[Path, frozenset[Target]] = {}
        self.unread: dict[Path, str] = {}
        self.hint = self.excess = ""
        self._names = 0

    def run(self) -> None:
        """Walk. Raises OSError for the root; errors below the root are recorded in `unread`."""
        below = self._list(self.root)
        while below:
            path = below.pop()
            try:
                below += self._list(path)
            except (FileNotFoundError, NotADirectoryError, ArchiveError):  # gone or a link now
                continue
            except OSError as exc:
                self.unread[path] = _why(exc)[1]
        if self.excess:  # what was not reached is not absent
            reached = {observation.path for observation in self.observations}
            for path in self.bounds.known - reached:
                self._candidate(path)

    def _exceeds(self, what: str) -> None:
        self.excess = (
            f"it has more than {what}: the others are not looked at (limits.archives, now "
            f"{self.bounds.archives}); delete what is no archive"
        )

    def _list(self, path: Path) -> list[Path]:
        """Scan one directory. Returns the sub-directories to scan next."""
        with self.beneath.open(path) as opened:
            if not opened.is_inside:  # exchanged for a link since it was listed: `/` is long
                raise self.beneath.refusal(path)
            with os.scandir(opened.descriptor) as entries:
                found = list(islice(entries, max(self.bounds.names - self._names, 0) + 1))
            self._names += len(found)
            if self._names > self.bounds.names:
                self._exceeds(f"{self.bounds.names} files and directories")
            os.stat(".", dir_fd=opened.descriptor)  # raises if it may be listed but not entered
            self.directories[path] = None
            if path == self.root and any(entry.name in _UNPACKED for entry in found):
                self.hint = (
                    "an image layout was unpacked right into it: move the layout into a directory "
                    "of its own here"
                )
            below: list[Path] = []
            later = later_parts(e.name for e in found if not e.is_dir(follow_symlinks=False))
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    below += self._directory(path / entry.name)
                elif is_candidate(entry.name) and entry.name not in later:
                    self._candidate(path / entry.name, opened)
        return below

    def _directory(self, path: Path) -> list[Path]:
        name = path.name
        blobs = path.parent == self.root and name in _UNPACKED
        if path in self.others or blobs or not is_candidate_directory(name):
            return []
        if not is_archive_directory(path, self.beneath):
            return [path] if self.recursive and not self._names > self.bounds.names else []
        self._candidate(path)
        return []

    def _candidate(self, path: Path, directory: Opened | None = None) -> None:
        if len(self.observations) >= self.bounds.archives and path not in self.bounds.known:
            self._exceeds(f"{self.bounds.archives} archives")
            return
        observation = _observe(path, self.mounts, self.beneath, directory)
        may_link = len(self.targets) < self.bounds.links
        if may_link and observation.linked and not observation.refused:
            targets = link_targets(path) if path.is_symlink() else frozenset()
            if targets:
                self.targets[path] = targets
        if observation.absent:
            return
        self.observations.append(observation)
        if observation.tree:
            try:
                self.directories |= dict.fromkeys(iter_directories(path, self.beneath), path)
            except OSError as exc:
                self.unread[path] = _why(exc)[1]
            except ArchiveError:  # it is another file now
                return


def _observe(
    path: Path,
    mounts: Mapping[Path, Mount],
    beneath: Beneath,
    directory: Opened | None = None,
) -> Observation:
    """Stat a path. `directory`: the open directory that it is in, if that is open."""
    at, wall_ns = time.monotonic(), time.time_ns()
    mount = _mount(path, mounts)
    observation = Observation(
        path, at, wall_ns, own_clock=not mount.is_remote, keeps_inodes=mount.keeps_inodes
    )
    try:
        entry = _entry_in(directory, path) if directory else beneath.stat_entry(path)
    except (FileNotFoundError, NotADirectoryError, LinkRefusedError):
        return replace(observation, absent=True)  # what it was in may be a file or a link now
    except OSError:
        return observation
    if not stat.S_ISLNK(entry.st_mode) and (directory is None or directory.is_inside):
        return _observe_found(observation, beneath, entry, link=False)
    try:
        return _observe_found(observation, beneath, beneath.stat(path), link=True)
    except LinkRefusedError:
        return replace(observation, key=StatKey.of(entry), linked=True, refused=True)
    except OSError:  # dangling
        return replace(observation, linked=True)


def _observe_found(
    observation: Observation, beneath: Beneath, found: os.stat_result, *, link: bool
) -> Observation:
    if stat.S_ISDIR(found.st_mode):
        return _observe_tree(observation, beneath, link=link)
    if not stat.S_ISREG(found.st_mode):
        return replace(observation, absent=True)
    path = observation.path
    if part_of(path.name) is not None and first_part(path, beneath) != path:
        return replace(observation, absent=True)  # a part of an archive that goes by its first one
    try:
        key = joined_key(path, beneath, found)
    except (OSError, ArchiveError):
        return replace(observation, linked=link)
    return replace(observation, key=key, linked=link or found.st_nlink > 1)


def _entry_in(directory: Opened, path: Path) -> os.stat_result:
    return os.stat(path.name, dir_fd=directory.descriptor, follow_symlinks=False)


def _observe_tree(observation: Observation, beneath: Beneath, *, link: bool) -> Observation:
    if not is_archive_directory(observation.path, beneath):
        return replace(observation, absent=True)
    try:
        key = stat_key(observation.path, beneath)
        return replace(observation, key=key, linked=link, tree=True)
    except (OSError, ArchiveError):
        return replace(observation, linked=link, tree=True)


def _mount(path: Path, mounts: Mapping[Path, Mount]) -> Mount:
    holding = [point for point in mounts if is_within(path, point)]
    return mounts[max(holding, key=lambda point: len(point.parts))] if holding else Mount(0, "", "")
