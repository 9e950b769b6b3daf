"""Processor time and memory of processes with all that they started, read from /proc.

Processor seconds are user and system time. A process that ended counts with its parent, if that
waited for it. Threads of the kernel (write-back, the loop device) are in no side's figure.
"""

import contextlib
import os
import resource
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Used:
    """Processor seconds in user mode and in the kernel."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.system

    def __add__(self, other: "Used") -> "Used":
        return Used(self.user + other.user, self.system + other.system)

    def __sub__(self, other: "Used") -> "Used":
        return Used(self.user - other.user, self.system - other.system)


def used_by(pids: Iterable[int], proc: Path = Path("/proc")) -> Used:
    """Returns what the processes used, with their descendants and those of these that ended."""
    every = family(pids, proc)
    return sum((_of_process(pid, proc) for pid in every), Used())


def used_by_ended_children() -> Used:
    """Returns what this process's children used that ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Used(used.ru_utime, used.ru_stime)


def family(pids: Iterable[int], proc: Path = Path("/proc")) -> set[int]:
    """Returns the processes and all their descendants."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal() and (fields := _fields(int(entry.name), proc)):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    due = list(pids)
    while due:
        pid = due.pop()
        if pid not in found:
            found.add(pid)
            due += children.get(pid, [])
    return found


def _of_process(pid: int, proc: Path) -> Used:
    fields = _fields(pid, proc)
    if not fields:
        return Used()
    user, system, ended_user, ended_system = (int(each) / _TICKS for each in fields[11:15])
    return Used(user + ended_user, system + ended_system)


def _fields(pid: int, proc: Path) -> list[str]:
    """Returns the fields of a process's `stat` from its state on, or none if it ended."""
    try:
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


class PeakMemory:
    """The most memory that some processes and their descendants had at once.

    `resident_mb` counts pages that processes share once (Pss), `anonymous_mb` only memory that is
    no file's. Sampled, so that a peak of some milliseconds is missed.
    """

    def __init__(self, pids: Iterable[int], pause_seconds: float = 0.1) -> None:
        self._pids, self._pause = list(pids), pause_seconds
        self._stop = threading.Event()
        self.resident_mb = self.anonymous_mb = 0.0
        self.processes = 0

    @contextlib.contextmanager
    def sampled(self) -> Iterator["PeakMemory"]:
        """Sample in a thread until the block ends."""
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _sample(self) -> None:
        while True:
            every = family(self._pids)
            sizes = [_sizes(pid) for pid in every]
            self.resident_mb = max(self.resident_mb, sum(size[0] for size in sizes))
            self.anonymous_mb = max(self.anonymous_mb, sum(size[1] for size in sizes))
            self.processes = max(self.processes, len(every))
            if self._stop.wait(self._pause):
                return


def _sizes(pid: int) -> tuple[float, float]:
    """Returns (Pss, its anonymous part) in MB, zeros for a process that ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0.0, 0.0
    sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
    return sizes["Pss:"], sizes["Pss_Anon:"]
