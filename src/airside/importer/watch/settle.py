"""When an archive is settled: pure decisions about stat results, events and time.

A file is *settled* when nothing says that it is still being written: it was renamed or linked into
place, it stayed unchanged for `settle_seconds` after its writer closed it, or for `quiet_seconds`
where no close was seen. A layout directory is when nothing in it changed for `quiet_seconds`, or
when it was renamed into place. What always holds:

- a path is reported once for each stat key; only `look_again` and `forget` report it again;
- a path is reported as removed only if it was reported before (or is known from the catalog) and
  was absent for `removal_seconds`; a replacement by rename never is a removal;
- an observation made before the last event of its path is ignored: the path is checked again.

Left to others (`airside.importer.watch.watcher`): events, stat calls, clocks, threads, which paths
are archives, and the detection that a whole directory is absent. `now` is a monotonic clock in
seconds, `wall_ns` the time of day.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from airside.archive.stat_key import StatKey
from airside.core.paths import is_within

MOST_SETTLED = 1000
"""The most archives of one batch: the next ones wait until it was recorded."""
RECHECK_SECONDS = 2.0
"""A key whose ctime is younger than this may hide a later change: the file is checked again."""


@dataclass(frozen=True, slots=True)
class Settled:
    path: Path
    key: StatKey


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one step. `settled` is in the order in which the catalog numbers them."""

    settled: tuple[Settled, ...] = ()
    removed: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """An observation of one path; `at` and `wall_ns` were read just before its stat.

    Neither `key` nor `absent`: unknown (a dangling link, a read error), wait. `lost`: its directory
    is absent. `linked`: a symbolic link, or one of several hard links. `tree`: a layout directory.
    `refused`: a link that may not be followed; `key` is the link's.
    `own_clock`: its times come from this host's clock, so that old ones prove that it is quiet.
    `keeps_inodes`: its inode number outlives a mount.
    """

    path: Path
    at: float
    wall_ns: int
    key: StatKey | None = None
    linked: bool = False
    tree: bool = False
    absent: bool = False
    lost: bool = False
    refused: bool = False
    own_clock: bool = True
    keeps_inodes: bool = True


class _Signal(Enum):
    """The last event of a path that no stat has answered yet."""

    CLOSE = auto()
    MOVE = auto()
    CREATE = auto()
    CHANGE = auto()


@dataclass(slots=True)
class _Entry:
    """The state of one path."""

    key: StatKey | None = None
    reported: StatKey | None = None
    wait_seconds: float = 0.0
    stable_at: float = 0.0
    signal: _Signal | None = None
    signal_at: float = float("-inf")
    gone_at: float | None = None
    again_at: float | None = None
    again: bool = False


class Settler:
    """Decides which files are settled, which were removed, and when to check a path.

    Feed it with `saw_*`; check the paths of `due()` no later than `next_look()`; end each round
    with `end_step()`; `take()` the result when the consumer is ready. Not thread-safe. It
    remembers present files, at most `most`, and forgets a path once its removal was taken. A path
    that is one too many is ignored until another was forgotten.
    """

    def __init__(
        self,
        *,
        settle_seconds: float,
        quiet_seconds: float,
        removal_seconds: float,
        known: Mapping[Path, StatKey],
        most: int = sys.maxsize,
    ) -> None:
        self._settle_seconds = settle_seconds
        self._quiet_seconds = quiet_seconds
        self._removal_seconds = removal_seconds
        self._entries = {path: _Entry(key=key, reported=key) for path, key in known.items()}
        self._looks: dict[Path, float] = {}
        self._ready: dict[Path, int] = {}
        self._gone: set[Path] = set()
        self._step = 0
        self._most = max(most, len(self._entries))

    def saw_close(self, path: Path, now: float) -> None:
        """Record that a writer closed the file."""
        self._saw_event(path, now, _Signal.CLOSE)

    def saw_move(self, path: Path, now: float) -> None:
        """Record that the file was renamed into place."""
        self._saw_event(path, now, _Signal.MOVE)

    def saw_create(self, path: Path, now: float) -> None:
        """Record a new name: complete if it is a link, else its writer will close it.

        A hard link whose other name is deleted already (so SFTP servers rename) or never existed
        can't be distinguished from a file being written: it settles when it is quiet.
        """
        self._saw_event(path, now, _Signal.CREATE)

    def saw_change(self, path: Path, now: float) -> None:
        """Record changed attributes or a deleted name. A new file waits for its close."""
        entry = self._entries.get(path)
        if entry is not None:
            self._saw_event(path, now, entry.signal or _Signal.CHANGE)

    def _entry(self, path: Path) -> _Entry | None:
        """Returns the state of a path, a new one if there is room for it."""
        found = self._entries.get(path)
        if found is None and len(self._entries) < self._most:
            found = self._entries[path] = _Entry()
        return found

    def _saw_event(self, path: Path, now: float, signal: _Signal) -> None:
        entry = self._entry(path)
        if entry is None:
            return
        entry.signal, entry.signal_at = signal, now
        self._ready.pop(path, None)
        self._plan(path, now)

    def saw_target(self, path: Path, now: float) -> None:
        """Record that the target of a link may be another file now."""
        entry = self._entry(path)
        if entry is not None:
            self._saw_event(path, now, entry.signal or _Signal.CHANGE)

    def saw_inside(self, path: Path, now: float) -> None:
        """Record a change in the layout directory: it is checked when it may be quiet."""
        entry = self._entry(path)
        if entry is None:
            return
        entry.signal, entry.signal_at = _Signal.CHANGE, now
        self._ready.pop(path, None)
        self._plan(path, now + self._quiet_seconds)

    def saw(self, observation: Observation) -> None:
        """Record the observation of a path."""
        if observation.key is not None:
            self._saw_there(observation, observation.key)
        elif observation.absent:
            self.saw_absent(observation.path, observation.at)
        else:
            self._saw_nothing(observation.path, observation.at)

    def _saw_there(self, observation: Observation, key: StatKey) -> None:
        path, now = observation.path, observation.at
        entry = self._entry(path)
        if entry is None or now < entry.signal_at:
            return
        signal, entry.signal = entry.signal, None
        if signal is _Signal.CREATE:
            if entry.key is None and not observation.linked and not key.size_bytes:
                self.forget(path)
                return
            signal = _Signal.MOVE if observation.linked else None
        if signal is None and not observation.keeps_inodes:
            key = _as_known(entry, key)
        entry.gone_at = None
        self._gone.discard(path)
        if entry.again_at is not None:
            if now >= entry.again_at:
                entry.again, entry.again_at = True, None
            else:
                self._plan(path, entry.again_at)
        if key != entry.key or signal in _restarting(observation):
            wall_ns = observation.wall_ns if observation.own_clock else None
            if observation.tree:
                entry.wait_seconds = self._wait_for_tree(entry, key, signal, wall_ns, now)
            else:
                entry.wait_seconds = self._wait(entry, key, signal, wall_ns)
            entry.key, entry.stable_at = key, now + entry.wait_seconds
            self._ready.pop(path, None)
        self._judge(path, entry, now)

    def _wait(
        self, entry: _Entry, key: StatKey, signal: _Signal | None, wall_ns: int | None
    ) -> float:
        """Returns the seconds for which the file must stay unchanged."""
        if signal is _Signal.MOVE:
            return 0.0
        if signal is _Signal.CLOSE:
            return self._settle_seconds
        if signal is _Signal.CHANGE and entry.key is not None:
            same_bytes = (entry.key.inode, entry.key.size_bytes) == (key.inode, key.size_bytes)
            if same_bytes and entry.wait_seconds <= self._settle_seconds:
                return self._settle_seconds  # chmod or touch of a file that was settled
        return self._wait_by_age(key, wall_ns)

    def _wait_for_tree(
        self, entry: _Entry, key: StatKey, signal: _Signal | None, wall_ns: int | None, now: float
    ) -> float:
        """As `_wait`: no single close proves that a directory is complete."""
        if signal is _Signal.MOVE:
            return 0.0
        wait_seconds = self._wait_by_age(key, wall_ns)
        if signal is not None:
            wait_seconds = max(wait_seconds, entry.signal_at + self._quiet_seconds - now)
        return wait_seconds

    def _wait_by_age(self, key: StatKey, wall_ns: int | None) -> float:
        if wall_ns is None:
            return self._quiet_seconds
        age_seconds = (wall_ns - max(key.mtime_ns, key.ctime_ns)) / 1e9
        if age_seconds < 0:  # a time in the future proves nothing
            return self._quiet_seconds
        return max(0.0, self._quiet_seconds - age_seconds)

    def _judge(self, path: Path, entry: _Entry, now: float) -> None:
        if entry.key == entry.reported and not entry.again:
            return
        if now >= entry.stable_at:
            self._ready.setdefault(path, self._step)
        else:
            self._plan(path, entry.stable_at)

    def saw_absent(self, path: Path, now: float) -> None:
        """Record that the path is absent or no regular file, while its directory is present."""
        entry = self._entries.get(path)
        if entry is None or now < entry.signal_at:
            return
        if entry.reported is None:
            self.forget(path)
            return
        entry.signal = None
        self._ready.pop(path, None)
        if entry.gone_at is None:
            entry.gone_at = now + self._removal_seconds
        if now >= entry.gone_at:
            self._gone.add(path)
        else:
            self._plan(path, entry.gone_at)

    def _saw_nothing(self, path: Path, now: float) -> None:
        """Record that the path's state is unknown: its earlier signals no longer count."""
        entry = self._entries.get(path)
        if entry is not None and now >= entry.signal_at:
            entry.signal = entry.gone_at = None
            self._ready.pop(path, None)
            self._gone.discard(path)

    def suspend(self, path: Path) -> None:
        """Record that its directory can't be read: nothing is decided about the path for now."""
        entry = self._entries[path]
        entry.signal = entry.gone_at = None
        self._looks.pop(path, None)
        self._ready.pop(path, None)
        self._gone.discard(path)

    def look_again(self, path: Path, at: float) -> None:
        """Report the path at `at`, or later when it is quiet, even if it did not change.

        A report before `at` fulfils the request.
        """
        self._entries.setdefault(path, _Entry()).again_at = at
        self._plan(path, at)

    def forget(self, path: Path) -> None:
        """Forget the path: the next observation is new, and its removal is not reported."""
        self._entries.pop(path, None)
        self._looks.pop(path, None)
        self._ready.pop(path, None)
        self._gone.discard(path)

    def tracked(self, directory: Path) -> list[Path]:
        """Returns the remembered paths in the directory, at any depth."""
        return [path for path in self._entries if is_within(path, directory)]

    def unsettled(self) -> int:
        """The number of paths that will be reported if nothing more happens to them.

        Not counted: a settled file that is looked at once more, and `look_again`.
        """
        return sum(
            1 for path in self._looks.keys() | self._ready | self._gone if self._is_open(path)
        )

    def _is_open(self, path: Path) -> bool:
        entry = self._entries.get(path)
        if entry is None or path in self._ready or path in self._gone:
            return True
        changed = entry.key != entry.reported and entry.again_at is None
        return changed or entry.signal is not None or entry.gone_at is not None

    def next_look(self) -> float | None:
        """Returns the time at which the next path is due; None: never."""
        return min(self._looks.values(), default=None)

    def due(self, now: float) -> list[Path]:
        """Returns the paths to check now, each once."""
        paths = [path for path, at in self._looks.items() if at <= now]
        for path in paths:
            del self._looks[path]
        return paths

    def end_step(self) -> None:
        """End a step: files that settle later are newer than all before, whatever their times."""
        self._step += 1

    def take(self, now: float, *, wall_ns: int) -> Batch | None:
        """Returns the batch to report, or None. Order: (step, mtime_ns, path).

        What is more than `MOST_SETTLED` is in the next batches, in that order.
        """
        if not self._ready and not self._gone:
            return None
        paths = sorted(self._ready, key=self._order)[:MOST_SETTLED]
        for path in paths:
            del self._ready[path]
        settled = [self._tell(path, now, wall_ns) for path in paths]
        removed = tuple(sorted(self._gone))
        for path in removed:
            self.forget(path)
        return Batch(tuple(settled), removed)

    def _order(self, path: Path) -> tuple[int, int, Path]:
        key = self._entries[path].key
        assert key is not None
        return self._ready[path], key.mtime_ns, path

    def _tell(self, path: Path, now: float, wall_ns: int) -> Settled:
        entry = self._entries[path]
        assert entry.key is not None
        entry.reported, entry.again, entry.again_at = entry.key, False, None
        if abs(wall_ns - entry.key.ctime_ns) < RECHECK_SECONDS * 1e9:
            self._plan(path, now + RECHECK_SECONDS)
        return Settled(path, entry.key)

    def _plan(self, path: Path, at: float) -> None:
        self._looks[path] = min(at, self._looks.get(path, at))


def _restarting(observation: Observation) -> frozenset[_Signal]:
    """Returns the signals after which even an unchanged path waits again."""
    return _OF_TREES if observation.tree else _OF_FILES


_OF_FILES = frozenset({_Signal.CLOSE, _Signal.MOVE})
_OF_TREES = frozenset(_Signal)


def _as_known(entry: _Entry, key: StatKey) -> StatKey:
    """Returns the known key if the new one may differ only by another mount of the same file.

    File systems that invent inode numbers often round times as well, and take ctime from mtime.
    """
    for known in (entry.key, entry.reported):
        if known and (known.size_bytes, known.mtime_ns) == (key.size_bytes, key.mtime_ns):
            return known
    return key
