"""A number of bytes of memory that threads and requests share, each reserving before it takes.

One account is for documents: pushes, imports, upstreams and runtimes share it, since parsed JSON
takes many times its text; a reservation lasts for one document, or for one push until it is
recorded. Another is for the windows of decompressions. What always holds:

- Never more than the total is reserved. One that asks for more gets all of it, alone.
- Turns are given in the order of asking, so nobody starves.
- Who holds a reservation never asks for another: two that wait for each other would wait for ever.

Blocking; thread-safe.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from contextlib import contextmanager
from dataclasses import dataclass, field

from airside.core.errors import StoppedError

_STOP_POLL_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Turn:
    """A place in the queue; `granted` is done once its bytes are reserved."""

    amount: int
    granted: Future[None] = field(default_factory=Future)


class MemoryAccount:
    """A number of bytes."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = max(total_bytes, 1)
        self._waiting: deque[Turn] = deque()
        self._lock = threading.Lock()
        self.held_bytes = 0

    def ask(self, count: int) -> Turn:
        """Queues for so many bytes, or for all if there are fewer. Always `give_back` the turn."""
        turn = Turn(min(count, self.total_bytes))
        with self._lock:
            self._waiting.append(turn)
            self._grant()
        return turn

    def give_back(self, turn: Turn) -> None:
        """Ends a turn, granted or not. Call it once."""
        with self._lock:
            if turn.granted.done():
                self.held_bytes -= turn.amount
            else:
                self._waiting.remove(turn)
            self._grant()

    @contextmanager
    def reserved(self, count: int, stop: Callable[[], bool]) -> Iterator[None]:
        """Waits for so many bytes and holds them. Raises StoppedError."""
        turn = self.ask(count)
        try:
            wait_for(turn, stop)
            yield
        finally:
            self.give_back(turn)

    def _grant(self) -> None:
        """Gives those that wait longest their turn, as far as the bytes reach."""
        while self._waiting:
            turn = self._waiting[0]
            if self.held_bytes + turn.amount > self.total_bytes:
                return
            self._waiting.popleft()
            self.held_bytes += turn.amount
            turn.granted.set_result(None)


def wait_for(turn: Turn, stop: Callable[[], bool]) -> None:
    """Waits until a turn is granted. Raises StoppedError."""
    while not turn.granted.done():
        if stop():
            raise StoppedError("stopped while waiting for memory")
        try:
            turn.granted.result(_STOP_POLL_SECONDS)
        except NotYetError:
            continue


def acquire(lock: threading.Lock, stop: Callable[[], bool]) -> None:
    """Acquires a lock that only one holder of much memory has. Raises StoppedError."""
    while not lock.acquire(timeout=_STOP_POLL_SECONDS):
        if stop():
            raise StoppedError("stopped while waiting for memory")
