"""What an open page and scrapes of `/metrics` cost an import. Pairs, one after the other.

In one run of a pair nobody looks. In the other a client holds the stream of the page open and loads
the page again at each change, as its script does, and another scrapes `/metrics` 500 times, evenly
over the import. The agent's processor time is compared beside the wall clock: on a busy machine
only that says something.
"""

import contextlib
import http.client
import os
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from peers import Agent, agent, head, shell, wait_until

SCRAPES = 500
PAGE = "/ui/"
_TICKS = os.sysconf("SC_CLK_TCK")


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
                if events.readline().startswith(b"event: change"):
                    self._load()

    def end(self) -> None:
        self.stop.set()
        if self.stream is not None and self.stream.sock is not None:
            with contextlib.suppress(OSError):
                self.stream.sock.shutdown(socket.SHUT_RDWR)

    def _load(self) -> None:
        with contextlib.closing(http.client.HTTPConnection(self.registry, timeout=30)) as client:
            client.request("GET", PAGE)
            client.getresponse().read()
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


class Observing:
    """Imports one archive again and again, alone and watched."""

    def __init__(self, base: Path, say: Callable[[str, str], None], runs: int) -> None:
        self._base, self._say, self._runs = base, say, runs

    def run(self, archive: Path, name: str) -> None:
        self._import(archive, name, None)  # the page cache
        pairs = []
        for _ in range(self._runs):
            alone = self._import(archive, name, None)
            seen = self._import(archive, name, alone[0] / SCRAPES)
            pairs.append((alone, seen))
        for what, at in (("wall clock", 0), ("processor time of the agent", 1)):
            ratio = statistics.median(seen[at] / alone[at] for alone, seen in pairs)
            alone, seen = (statistics.median(pair[side][at] for pair in pairs) for side in (0, 1))
            self._say(
                f"import beside an open page and scrapes: {what}",
                f"{seen:7.3f} s  alone {alone:7.3f} s  ratio {ratio:.3f}",
            )
        counts = [seen[2:] for _, seen in pairs]
        self._say("scrapes, loads of the page during each import", f"{counts}")

    def _import(
        self, archive: Path, name: str, pause: float | None
    ) -> tuple[float, float, int, int]:
        """Returns the seconds on the wall and of the processor, and what was asked meanwhile."""
        with agent(self._base / "observed") as node:
            waiting = self._base / "observed" / archive.name
            shutil.copyfile(archive, waiting)
            shell("sync")
            path, begun = f"/v2/{name.replace(':1', '')}/manifests/1", _cpu_seconds(node)
            looking = contextlib.nullcontext() if pause is None else watched(node.registry, pause)
            with looking as clients:
                started = time.perf_counter()
                waiting.rename(node.images / archive.name)
                end = wait_until(lambda: head(node.registry, path) == 200, 300, pause=0.05)
                seconds, cpu = end - started, _cpu_seconds(node) - begun
                asked = (clients.scrapes, clients.loads) if clients else (0, 0)
            return seconds, cpu, *asked


def _cpu_seconds(node: Agent) -> float:
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
