"""Into containerd, unpacked: the agent against `ctr images import --local`, in the same run.

Both begin with an empty containerd and the archive in the page cache. Ours ends when the last
image has its name, which it gets after it was unpacked and synced; theirs when `ctr` ends, and for
the second figure when what it wrote is synced too. Processor time is of all who took part, and
says the most on a machine that does other things.
"""

import contextlib
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peers import agent, shell, wait_until

from airside.containerd.client import Client
from support.containerd import Containerd

Say = Callable[[str, str], None]
_SECONDS = 600.0


@dataclass(frozen=True)
class Cost:
    """Seconds until it is there, until it is durable too, and of the processors."""

    there: float
    durable: float
    processor: float


class UnpackBench:
    """The part `unpacking`."""

    def __init__(self, base: Path, say: Say, runs: int, version: str | None) -> None:
        self.base, self.say, self.runs, self.version = base, say, runs, version

    def run(self, archives: dict[str, Path], names: list[str]) -> None:
        for what, archive in archives.items():
            pairs = [(self._ours(archive, names), self._theirs(archive)) for _ in range(self.runs)]
            for figure in ("there", "durable", "processor"):
                ours = [getattr(mine, figure) for mine, _ in pairs]
                theirs = [getattr(other, figure) for _, other in pairs]
                ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
                self.say(
                    f"{what}: dropped → unpacked, {figure} / ctr images import",
                    f"{statistics.median(ours):7.3f} s  peer {statistics.median(theirs):7.3f} s"
                    f"  peer/ours {ratio:.2f}",
                )

    @contextlib.contextmanager
    def _empty(self) -> Iterator[Containerd]:
        """A containerd on the file system of the agent's data."""
        home = self.base / "containerd"
        with Containerd(self.version, home) as made:
            shell("sync")
            yield made
        shutil.rmtree(home)

    def _theirs(self, archive: Path) -> Cost:
        with self._empty() as containerd:
            before = _of_process(containerd.pid) + _of_children()
            started = time.perf_counter()
            flags = (*containerd.local, "--snapshotter", containerd.options.snapshotter)
            containerd.did("images", "import", *flags, archive)
            there = time.perf_counter() - started
            used = _of_process(containerd.pid) + _of_children() - before
            shell("sync")
            return Cost(there, time.perf_counter() - started, used)

    def _ours(self, archive: Path, names: list[str]) -> Cost:
        base = self.base / "agent"
        with (
            self._empty() as containerd,
            agent(base, runtime=str(containerd.socket)) as node,
            Client.open(str(containerd.socket)) as client,
        ):
            wait_until(lambda: _is_connected(node.get("/v1/status")), _SECONDS)
            waiting = base / archive.name
            shutil.copyfile(archive, waiting)
            shell("sync")
            before = _of_process(containerd.pid) + _of_process(node.process.pid)
            started = time.perf_counter()
            waiting.rename(node.images / archive.name)
            wanted = set(names)
            end = wait_until(
                lambda: wanted <= {image.name for image in client.images()}, _SECONDS, 0.02
            )
            used = _of_process(containerd.pid) + _of_process(node.process.pid) - before
            return Cost(end - started, end - started, used)


def _is_connected(status: dict[str, list[dict[str, bool]]]) -> bool:
    return any(runtime["connected"] for runtime in status["runtimes"])


def _of_process(pid: int) -> float:
    """Processor seconds of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_TICKS = 100
"""Of Linux, in what user programs see (USER_HZ)."""


if __name__ == "__main__":
    sys.exit("run bench/run.py unpacking")
