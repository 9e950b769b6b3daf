"""Bounds the memory that decompression takes for its windows, for all archives together."""

from typing import Self

from airside.archive.stop import Stop, never
from airside.core.memory_account import MemoryAccount, Turn, wait_for


class WindowBudget:
    """Bounds the memory that all running decompressions take for their windows. Thread-safe.

    Requests are granted in their order, so that small windows do not starve a large one. A request
    above the whole budget waits until nothing is reserved, and then runs alone. A thread that
    holds a reservation must not wait for a second one: grow the first.
    """

    def __init__(self, total_bytes: int) -> None:
        self._account = MemoryAccount(total_bytes)

    @property
    def held_bytes(self) -> int:
        return self._account.held_bytes

    def reserve(self, window_bytes: int = 0, *, stop: Stop = never) -> "Reservation":
        """Wait until so many bytes fit; returns a context manager that releases them.

        Raises StoppedError once `stop()` is true.
        """
        reservation = Reservation(self._account, stop)
        reservation.grow(window_bytes)
        return reservation


class Reservation:
    """A share of a WindowBudget for one thread, released by `release` or at the end of `with`."""

    def __init__(self, account: MemoryAccount, stop: Stop) -> None:
        self._account = account
        self._stop = stop
        self._window_bytes = 0
        self._turn: Turn | None = None

    def grow(self, window_bytes: int) -> None:
        """Reserve at least so many bytes. Releases its share while it waits: no deadlock."""
        if window_bytes > self._window_bytes:
            self.release()
            self._turn = self._account.ask(window_bytes)
            try:
                wait_for(self._turn, self._stop)
            except BaseException:
                self.release()
                raise
            self._window_bytes = window_bytes

    def release(self) -> None:
        """Release the share; idempotent."""
        turn, self._turn, self._window_bytes = self._turn, None, 0
        if turn is not None:
            self._account.give_back(turn)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
