"""What an open page and scrapes of `/metrics` cost an import. Pairs, one after the other.

In one run of a pair nobody looks. In the other a client holds the stream of the page open and loads
what the page's script loads: the page at a change, its list of running imports at each progress.
Another scrapes `/metrics` 500 times, evenly over the import. The page hears once a second at most,
so the import must be long: four images of the set as tar.bz2, of which a core decompresses some
30 MB a second. The agent's processor time is compared beside the wall clock: on a busy machine only
that says something.
"""

import contextlib
import http.client
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import file_system
from pairs import Ratio, ratio
from peers import agent, head, wait_until
from processors import used_by

SCRAPES = 500
LOADS = {b"event: change": "/ui/", b"event: progress": "/ui/running"}
_LEAST_SECONDS = 10.0


@dataclass
class Watching:
    """The clients that look at one agent, until `stop` is set."""

    registry: str
    pause_seconds: float
    stop: threading.Event = field(default_factory=threading.Event)
    scrapes: int = 0
    loads: int = 0
    stream: http.client.HTTPConnection | None = None

    def scrape(self) -> None:
        started = time.perf_counter()
        with contextlib.closing(http.client.HTTPConnection(self.registry, timeout=30)) as client:
            while self.scrapes < SCRAPES and not self.stop.is_set():
                client.request("GET", "/metrics")
                answer = client.getresponse()
                assert answer.status == 200
                answer.read()
                self.scrapes += 1
                due = started + self.scrapes * self.pause_seconds
                self.stop.wait(max(0.0, due - time.perf_counter()))

    def look(self) -> None:
        """Holds the stream open, and loads the page at each event."""
        self.stream = http.client.HTTPConnection(self.registry, timeout=300)
        with contextlib.closing(self.stream):
            self.stream.request("GET", "/ui/events")
            events = self.stream.getresponse()
            while not self.stop.is_set():
                if path := LOADS.get(events.readline().strip()):
                    self._load(path)

    def end(self) -> None:
        self.stop.set()
        if self.stream is not None and self.stream.sock is not None:
            with contextlib.suppress(OSError):
                self.stream.sock.shutdown(socket.SHUT_RDWR)

    def _load(self, path: str) -> None:
        with contextlib.closing(http.client.HTTPConnection(self.registry, timeout=30)) as client:
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            assert answer.status == 200
            self.loads += 1


@contextlib.contextmanager
def watched(registry: str, pause_seconds: float) -> Iterator[Watching]:
    clients = Watching(registry, pause_seconds)
    threads = [threading.Thread(target=each) for each in (clients.scrape, clients.look)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.end()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Observed:
    """One import: seconds on the wall, processor seconds of the agent, and what was asked."""

    seconds: float
    processor_seconds: float
    scrapes: int = 0
    loads: int = 0


class Observing:
    """Imports one archive again and again, alone and watched. `base`: where the loop file lies."""

    def __init__(self, base: Path, archive: Path, name: str) -> None:
        self._base, self._archive, self._name = base, archive, name

    def run(self, pairs: int) -> list[tuple[Observed, Observed]]:
        """Returns pairs of an import alone and a watched one."""
        found = []
        for _ in range(pairs):
            alone = self._import(None)
            found.append((alone, self._import(alone.seconds / SCRAPES)))
        return found

    def _import(self, pause: float | None) -> Observed:
        with file_system.fresh(self._base) as disk, agent(disk / "agent", seconds=60) as node:
            waiting = disk / self._archive.name
            shutil.copyfile(self._archive, waiting)
            file_system.sync(disk)
            path = f"/v2/{self._name.removesuffix(':1')}/manifests/1"
            pids, looking = [node.process.pid], contextlib.nullcontext()
            if pause is not None:
                looking = watched(node.registry, pause)
            before = used_by(pids)
            with looking as clients:
                started = time.perf_counter()
                waiting.rename(node.images / self._archive.name)
                end = wait_until(lambda: head(node.registry, path) == 200, 600, pause=0.05)
                used = used_by(pids) - before
                asked = (clients.scrapes, clients.loads) if clients else ()
            return Observed(end - started, used.total, *asked)


def describe(pairs: Sequence[tuple[Observed, Observed]]) -> dict[str, Any]:
    """Returns the pairs and the ratios of watched to alone. ValueError if an import was short."""
    least = min(each.seconds for pair in pairs for each in pair)
    if least < _LEAST_SECONDS:
        raise ValueError(f"an import took {least:.1f} s, not {_LEAST_SECONDS:.0f}")
    wall = [[side.seconds for side in pair] for pair in pairs]
    used = [[side.processor_seconds for side in pair] for pair in pairs]
    return {
        "pairs": [[asdict(side) for side in pair] for pair in pairs],
        "seconds": asdict(_ratio(wall)),
        "processor_seconds": asdict(_ratio(used)),
    }


def _ratio(pairs: Sequence[Sequence[float]]) -> Ratio:
    alone, seen = zip(*pairs, strict=True)
    return ratio(seen, alone, more_is_better=False)
