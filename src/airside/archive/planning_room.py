"""Bounds the memory of all plans together: of those being made, and of those that imports hold.

Documents are parsed in one archive at a time. An import holds its plan until it ends; one plan at a
time may be large. A second large one is dropped, and made again when the first import has ended.
Blocking; thread-safe.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from airside.archive.formats.allowance import Allowance, LargePlan
from airside.archive.stop import Stop
from airside.core.errors import StoppedError
from airside.core.settings import MIB, Limits

SMALL_BYTES = 4 * MIB
"""A plan of a hundred usual images takes less."""
_STOP_POLL_SECONDS = 0.1

T = TypeVar("T")


class PlanningRoom:
    """The room for the plans of all archives."""

    def __init__(self) -> None:
        self.turn, self.large = threading.Lock(), threading.Lock()


class PlanPlace:
    """The place of one archive's plan; `close` it when the plan is not needed any more."""

    def __init__(self, room: PlanningRoom, stop: Stop) -> None:
        self._room, self._stop = room, stop
        self._is_large = False

    def draft(self, limits: Limits, make: Callable[[Allowance], T]) -> T:
        """Returns what `make` returns; it may run twice. Raises StoppedError."""
        try:
            with self.planning():
                allowance = Allowance(limits, None if self._is_large else SMALL_BYTES)
                made = make(allowance)
                allowance.is_drafted()
                return made
        except LargePlan:
            _acquire(self._room.large, self._stop)
            self._is_large = True
        with self.planning():
            return make(Allowance(limits))

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Holds the turn to parse documents. Raises StoppedError."""
        _acquire(self._room.turn, self._stop)
        try:
            yield
        finally:
            self._room.turn.release()

    def close(self) -> None:
        """Gives the place to others; idempotent."""
        if self._is_large:
            self._is_large = False
            self._room.large.release()


def _acquire(lock: threading.Lock, stop: Stop) -> None:
    while not lock.acquire(timeout=_STOP_POLL_SECONDS):
        if stop():
            raise StoppedError("the import was stopped")
