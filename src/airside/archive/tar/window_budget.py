"""The memory that decompression takes for its windows, bounded for all archives together."""

import threading
from collections import deque
from typing import Self

from airside.archive.stop import Stop, never
from airside.core.errors import StoppedError

_STOP_POLL_SECONDS = 0.1


class WindowBudget:
    """Bounds the memory that all running decompressions take for their windows. Thread-safe.

    Served in the order of asking, so that a large window is not starved by small ones. A request
    above the whole budget waits until nobody holds anything, and then runs alone. A thread that
    holds a reservation must not wait for a second one: grow the first.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = max(total_bytes, 1)
        self._held_bytes = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def reserve(self, window_bytes: int = 0, *, stop: Stop = never) -> "Reservation":
        """Wait for room, as a context manager. Raises StoppedError once `stop()` is true."""
        reservation = Reservation(self, stop)
        reservation.grow(window_bytes)
        return reservation

    def _acquire(self, window_bytes: int, stop: Stop) -> int:
        amount = min(window_bytes, self._total_bytes)
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or self._held_bytes + amount > self._total_bytes:
                    if stop():
                        raise StoppedError("stopped while waiting for memory to decompress with")
                    self._changed.wait(_STOP_POLL_SECONDS)
                self._held_bytes += amount
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        return amount

    def _release(self, amount: int) -> None:
        with self._changed:
            self._held_bytes -= amount
            self._changed.notify_all()


class Reservation:
    """A share of a WindowBudget, of one holder; given back by `release` or at the end of `with`."""

    def __init__(self, budget: WindowBudget, stop: Stop) -> None:
        self._budget = budget
        self._stop = stop
        self._window_bytes = 0
        self._amount = 0

    def grow(self, window_bytes: int) -> None:
        """Hold at least so much. Gives back what it holds while it waits: no deadlock."""
        if window_bytes > self._window_bytes:
            self.release()
            self._amount = self._budget._acquire(window_bytes, self._stop)  # noqa: SLF001  one pair
            self._window_bytes = window_bytes

    def release(self) -> None:
        """Give it back; idempotent."""
        amount, self._amount, self._window_bytes = self._amount, 0, 0
        if amount:
            self._budget._release(amount)  # noqa: SLF001  one pair

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
