"""Numbers that only grow, by label values: counts, and distributions over buckets. Thread-safe.

A lock is held for one addition, so that no addition is lost and no reader sees half of one.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

Labels = tuple[str, ...]


class Tally:
    """Sums by label values. `known`: those that are 0 from the start."""

    def __init__(self, known: Iterable[Labels] = ()) -> None:
        self._sums: dict[Labels, float] = dict.fromkeys(known, 0)
        self._lock = threading.Lock()

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        with self._lock:
            self._sums[labels] = self._sums.get(labels, 0) + amount

    def read(self) -> dict[Labels, float]:
        """Returns a copy of the sums."""
        with self._lock:
            return dict(self._sums)


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution at one moment: the number of values up to each bound, and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    """Of each bucket alone; one more than bounds: the last is of all that are larger."""
    total: float


class Distribution:
    """Distributions over the same buckets, by label values."""

    def __init__(self, bounds: tuple[float, ...], known: Iterable[Labels] = ()) -> None:
        self._bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()
        for labels in known:
            self._begin(labels)

    def _begin(self, labels: Labels) -> list[int]:
        self._sums[labels] = 0.0
        return self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))

    def add(self, value: float, labels: Labels = ()) -> None:
        place = bisect_left(self._bounds, value)
        with self._lock:
            counts = self._counts.get(labels) or self._begin(labels)
            counts[place] += 1
            self._sums[labels] += value

    def read(self) -> dict[Labels, Spread]:
        """Returns a copy of the distributions."""
        with self._lock:
            return {
                labels: Spread(self._bounds, tuple(counts), self._sums[labels])
                for labels, counts in self._counts.items()
            }
