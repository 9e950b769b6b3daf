"""Compares publishing to containerd with `ctr images import --local`, in the same run.

Both begin with an empty containerd and the archive in the page cache. Without unpacking, the peer
is `--no-unpack`, which reads a compressed archive from `zstd -dc` or `gzip -dc`. Ours ends when the
last image has its name, theirs when `ctr` ends; the figure `durable` also includes the sync of the
peer's files. Processor time is the sum of all processes, and the best figure on a busy machine. GNU
tar is the lower bound: the archive is copied and synced, then each layer is extracted once, one
`tar` for each processor.
"""

import contextlib
import os
import resource
import shlex
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from peers import Agent, agent, shell, wait_until

from airside.containerd.client import Client
from support.containerd import Containerd

Say = Callable[[str, str], None]
_SECONDS = 600.0
_PIPES = {".gz": "gzip -dc", ".zst": "zstd -dcq"}


@dataclass(frozen=True)
class Cost:
    """Seconds until the images exist, until they are durable too, and of processor time.

    `ways` counts the blobs by their way into containerd.
    """

    there: float
    durable: float
    processor: float
    ways: Counter[str] = field(default_factory=Counter)


class ContainerdBench:
    """The parts `publishing` (not unpacked) and `unpacking`."""

    def __init__(self, base: Path, say: Say, runs: int, version: str | None) -> None:
        self.base, self.say, self.runs, self.version = base, say, runs, version

    def publishing(self, archives: dict[str, Path], names: list[str]) -> None:
        """Compare the import without unpacking."""
        for what, archive in archives.items():
            self._pairs(f"{what}: dropped → named / ctr --no-unpack", archive, names, unpack=False)

    def unpacking(
        self, archives: dict[str, Path], names: list[str], layers: dict[str, list[Path]]
    ) -> None:
        """Compare the import with unpacking; `layers` are the layer files of each archive."""
        for what, archive in archives.items():
            ours = self._pairs(f"{what}: dropped → unpacked / ctr", archive, names, unpack=True)
            tar = [self._tar(archive, layers[what]) for _ in range(self.runs)]
            self.say(
                f"{what}: the same / cp, sync, tar -x on all cores",
                f"peer {statistics.median(tar):7.3f} s  ours/peer"
                f" {statistics.median(ours) / statistics.median(tar):.2f}",
            )

    def _pairs(self, what: str, archive: Path, names: list[str], *, unpack: bool) -> list[float]:
        """Run both sides one after the other, and print them; returns our seconds."""
        pairs = [
            (self._ours(archive, names, unpack=unpack), self._theirs(archive, unpack=unpack))
            for _ in range(self.runs)
        ]
        with Containerd(self.version, self.base / "containerd") as containerd:
            version = containerd.version
        for figure in ("there", "durable", "processor"):
            ours = [getattr(mine, figure) for mine, _ in pairs]
            theirs = [getattr(other, figure) for _, other in pairs]
            ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
            self.say(
                f"{what}, {figure} ({version})",
                f"{statistics.median(ours):7.3f} s  peer {statistics.median(theirs):7.3f} s"
                f"  peer/ours {ratio:.2f}",
            )
        ways = sum((mine.ways for mine, _ in pairs), Counter[str]())
        self.say(f"{what}, ways of the blobs", ", ".join(f"{n} {way}" for way, n in ways.items()))
        return [mine.there for mine, _ in pairs]

    @contextlib.contextmanager
    def _empty(self) -> Iterator[Containerd]:
        """Run an empty containerd on the file system of the agent's data."""
        home = self.base / "containerd"
        with Containerd(self.version, home) as made:
            self._sync()
            yield made
            made.kill()
            self._set_aside(made.root)
        shutil.rmtree(home)

    def _set_aside(self, root: Path) -> None:
        """Truncate the files to free their space, but delete none until the end.

        ext4 does not reuse an inode for minutes after its deletion, but examines each such inode
        again and again: unpacking into a file system where thousands of files were just deleted
        takes several times as long.
        """
        for directory, _, files in os.walk(root):
            for name in files:
                path = os.path.join(directory, name)  # noqa: PTH118 - of many files
                if os.path.isfile(path) and not os.path.islink(path):  # noqa: PTH113, PTH114
                    os.truncate(path, 0)
        aside = self.base / "aside"
        aside.mkdir(exist_ok=True)
        root.rename(aside / str(len(list(aside.iterdir()))))

    def _sync(self) -> None:
        """Sync the file system of the benchmark only, not those of other processes."""
        shell(f"sync -f {shlex.quote(str(self.base))}")

    def _theirs(self, archive: Path, *, unpack: bool) -> Cost:
        with self._empty() as containerd:
            flags = [*containerd.local, "--snapshotter", str(containerd.options.snapshotter)]
            flags += [] if unpack else ["--no-unpack"]
            ctr = [str(containerd.programs / "ctr"), "-a", str(containerd.socket), "-n", "k8s.io"]
            command = shlex.join([*ctr, "images", "import", *flags])
            pipe = _PIPES.get(archive.suffix)
            source = shlex.quote(str(archive))
            line = f"{pipe} {source} | {command} -" if pipe else f"{command} {source}"
            before = _of_process(containerd.pid) + _of_children()
            started = time.perf_counter()
            shell(line)
            there = time.perf_counter() - started
            used = _of_process(containerd.pid) + _of_children() - before
            self._sync()
            return Cost(there, time.perf_counter() - started, used)

    def _ours(self, archive: Path, names: list[str], *, unpack: bool) -> Cost:
        base = self.base / "agent"
        how = "node-platform" if unpack else "never"
        with (
            self._empty() as containerd,
            agent(base, runtime=str(containerd.socket), unpack=how) as node,
            Client.open(str(containerd.socket)) as client,
        ):
            wait_until(lambda: _is_connected(node.get("/v1/status")), _SECONDS)
            waiting = base / archive.name
            shutil.copyfile(archive, waiting)
            self._sync()
            before = _of_process(containerd.pid) + _of_process(node.process.pid)
            started = time.perf_counter()
            waiting.rename(node.images / archive.name)
            wanted = set(names)
            there = wait_until(
                lambda: wanted <= {image.name for image in client.images()}, _SECONDS, 0.02
            )
            durable = wait_until(
                lambda: _is_recorded(node, wanted, unpacked=unpack), _SECONDS, 0.05
            )
            used = _of_process(containerd.pid) + _of_process(node.process.pid) - before
            [runtime] = node.get("/v1/status")["runtimes"]
            return Cost(there - started, durable - started, used, Counter(runtime["blobs"]))

    def _tar(self, archive: Path, layers: list[Path]) -> float:
        """Returns the seconds of copying and syncing the archive and extracting each layer once."""
        out = self.base / "extracted"
        out.mkdir()
        copied = shell(f"cp {archive} {out}/copy; sync {out}/copy")
        (out / "copy").unlink()
        for layer in layers:
            (out / layer.name).mkdir()
        each = f"tar -x -f {{}} -C {out}/$(basename {{}})"
        names = "\\n".join(map(str, layers))
        took = shell(f"printf '{names}' | xargs -P {os.cpu_count()} -I{{}} sh -c '{each}'")
        self._set_aside(out)
        return copied + took


def _is_connected(status: dict[str, list[dict[str, bool]]]) -> bool:
    return any(runtime["connected"] for runtime in status["runtimes"])


def _is_recorded(node: Agent, names: set[str], *, unpacked: bool) -> bool:
    """Returns True if the agent reports all names as published, which it does once durable."""
    found = {
        image["reference"]
        for image in node.get("/v1/images")["items"]
        if any(r["present"] and (r["unpacked"] or not unpacked) for r in image["runtimes"])
    }
    return names <= found


def _of_process(pid: int) -> float:
    """Returns the processor seconds of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_TICKS = 100
"""Clock ticks per second in /proc (USER_HZ of Linux)."""


if __name__ == "__main__":
    sys.exit("run bench/run.py publishing unpacking")
