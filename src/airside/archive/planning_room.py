"""Bounds the memory of all plans together: of those being made, and of those that imports hold.

Documents are parsed in one archive at a time, and each reserves the memory of parsing from the
account that it shares with pushes (`core.memory_account`). An import holds its plan until it ends,
perhaps for minutes, so plans are not in that account: one plan at a time may be large. A second
large one is dropped, and made again when the first import has ended. Blocking; thread-safe.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from airside.archive.formats.allowance import Allowance, LargePlan
from airside.archive.stop import Stop
from airside.core.memory_account import MemoryAccount, Turn, acquire, wait_for
from airside.core.settings import MIB, Limits
from airside.oci.strict_json import parsed_bytes

SMALL_BYTES = 4 * MIB
"""A plan of a hundred usual images takes less."""

T = TypeVar("T")
Key = TypeVar("Key")
Raw = TypeVar("Raw", bytes, bytes | None)


class PlanningRoom:
    """The room for the plans of all archives. Without an account, parsing is not bounded."""

    def __init__(self, memory: MemoryAccount | None = None) -> None:
        self.memory = memory or MemoryAccount(sys.maxsize)
        self.turn, self.large = threading.Lock(), threading.Lock()


class PlanPlace:
    """The place of one archive's plan; `close` it when the plan is not needed any more."""

    def __init__(self, room: PlanningRoom, stop: Stop) -> None:
        self._room, self._stop = room, stop
        self._is_large = False
        self._parsing: Turn | None = None

    def draft(self, limits: Limits, make: Callable[[Allowance], T]) -> T:
        """Returns what `make` returns; it may run twice. Raises StoppedError."""
        try:
            with self.planning():
                allowance = Allowance(limits, None if self._is_large else SMALL_BYTES)
                made = make(allowance)
                allowance.is_drafted()
                return made
        except LargePlan:
            acquire(self._room.large, self._stop)
            self._is_large = True
        with self.planning():
            return make(Allowance(limits))

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Holds the turn to parse documents. Raises StoppedError."""
        acquire(self._room.turn, self._stop)
        try:
            yield
        finally:
            self._end_parsing()
            self._room.turn.release()

    def reserving(self, read: Callable[[Key], Raw]) -> Callable[[Key], Raw]:
        """Returns `read` so that it reserves the memory of parsing what it returns.

        The memory is held until the next document is read, or the turn ends: what stays of a
        document is counted in the plan. Call it within `planning` only. Raises StoppedError.
        """

        def reserved(key: Key) -> Raw:
            self._end_parsing()
            raw = read(key)
            if raw is not None:
                self._parsing = self._room.memory.ask(len(raw) + parsed_bytes(raw))
                wait_for(self._parsing, self._stop)
            return raw

        return reserved

    def _end_parsing(self) -> None:
        turn, self._parsing = self._parsing, None
        if turn is not None:
            self._room.memory.give_back(turn)

    def close(self) -> None:
        """Gives the place to others; idempotent."""
        if self._is_large:
            self._is_large = False
            self._room.large.release()
