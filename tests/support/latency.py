"""Asks a registry for `/v2/` again and again, and counts how long each answer took."""

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.waiting import LIMIT_SECONDS

_BETWEEN_SECONDS = 0.01


@dataclass
class Latencies:
    """The seconds of each answer; `errors` are requests without a 200."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        ordered = sorted(self.seconds)
        return ordered[len(ordered) * 99 // 100] if ordered else 0.0

    @property
    def worst(self) -> float:
        return max(self.seconds, default=0.0)

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} answers, p99 {self.p99 * 1000:.0f} ms, "
            f"worst {self.worst * 1000:.0f} ms"
        )


@contextlib.contextmanager
def asking(address: str) -> Iterator[Latencies]:
    """Ask over one connection until the block ends."""
    found, stop = Latencies(), threading.Event()

    def ask() -> None:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)
        with contextlib.closing(connection):
            while not stop.wait(_BETWEEN_SECONDS):
                begun = time.monotonic()
                try:
                    connection.request("GET", "/v2/")
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException) as exc:
                    connection.close()
                    found.errors.append(repr(exc))
                    continue
                found.seconds.append(time.monotonic() - begun)
                if answer.status != 200:
                    found.errors.append(str(answer.status))

    thread = threading.Thread(target=ask, name="latency")
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
