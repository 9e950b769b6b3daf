"""Bounds the memory that decompression takes for its windows, for all archives together."""

import threading
from collections import deque
from typing import Self

from airside.archive.stop import Stop, never
from airside.core.errors import StoppedError

_STOP_POLL_SECONDS = 0.1


class WindowBudget:
    """Bounds the memory that all running decompressions take for their windows. Thread-safe.

    Requests are granted in their order, so that small windows do not starve a large one. A request
    above the whole budget waits until nothing is reserved, and then runs alone. A thread that
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
        """Wait until so many bytes fit; returns a context manager that releases them.

        Raises StoppedError once `stop()` is true.
        """
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
                        raise StoppedError("stopped while waiting for decompression memory")
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
    """A share of a WindowBudget for one thread, released by `release` or at the end of `with`."""

    def __init__(self, budget: WindowBudget, stop: Stop) -> None:
        self._budget = budget
        self._stop = stop
        self._window_bytes = 0
        self._amount = 0

    def grow(self, window_bytes: int) -> None:
        """Reserve at least so many bytes. Releases its share while it waits: no deadlock."""
        if window_bytes > self._window_bytes:
            self.release()
            self._amount = self._budget._acquire(window_bytes, self._stop)  # noqa: SLF001  one pair
            self._window_bytes = window_bytes

    def release(self) -> None:
        """Release the share; idempotent."""
        amount, self._amount, self._window_bytes = self._amount, 0, 0
        if amount:
            self._budget._release(amount)  # noqa: SLF001  one pair

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
