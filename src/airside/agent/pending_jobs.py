"""The jobs that wait for a thread: archives by rank, lists of images in their order."""

import heapq
from collections import OrderedDict
from collections.abc import Container
from itertools import count
from pathlib import Path

from airside.agent.import_order import Rank
from airside.archive.formats.image_list import is_list_name
from airside.importer.importer import Job

_OLDEST_EACH = 8
"""One of so many archives is the oldest one: small new ones do not hold up a large one for ever."""
_NO_RANK: Rank = (0, 0, 0)


class PendingJobs:
    """One job for each path; a newer one replaces it. Each call takes as long for any number.

    Archives of one rank keep their order.
    """

    def __init__(self) -> None:
        self._archives: OrderedDict[Path, Job] = OrderedDict()
        self._lists: OrderedDict[Path, Job] = OrderedDict()
        self._ranks: dict[Path, tuple[Rank, int]] = {}
        self._heap: list[tuple[Rank, int, Path]] = []
        """By rank; entries that are not those of `_ranks` are out of date."""
        self._numbers = count()
        self._taken = 0

    def __len__(self) -> int:
        return len(self._archives) + len(self._lists)

    def __contains__(self, path: Path) -> bool:
        return path in self._archives or path in self._lists

    def add(self, job: Job, rank: Rank = _NO_RANK) -> None:
        """Adds a job; the lowest rank is the next."""
        path = job.path
        self._of(path)[path] = job
        if path in self._archives and self._ranks.get(path, (None, 0))[0] != rank:
            self._ranks[path] = rank, next(self._numbers)
            heapq.heappush(self._heap, (*self._ranks[path], path))

    def pop(self, path: Path) -> Job | None:
        job = self._of(path).pop(path, None)
        if self._ranks.pop(path, None) is not None:
            self._taken += 1
        return job

    def next_archive(self, running: Container[Path]) -> Path | None:
        """Returns the archive of the lowest rank whose path is not among the few running ones."""
        if self._taken % _OLDEST_EACH == _OLDEST_EACH - 1:
            return next((path for path in self._archives if path not in running), None)
        found, skipped = None, []
        while self._heap and found is None:
            rank, number, path = self._heap[0]
            if self._ranks.get(path) != (rank, number):
                heapq.heappop(self._heap)
            elif path in running:
                skipped.append(heapq.heappop(self._heap))
            else:
                found = path
        for entry in skipped:
            heapq.heappush(self._heap, entry)
        return found

    def next_list(self, running: Container[Path]) -> Path | None:
        return next((path for path in self._lists if path not in running), None)

    def _of(self, path: Path) -> OrderedDict[Path, Job]:
        return self._lists if is_list_name(path.name) else self._archives
