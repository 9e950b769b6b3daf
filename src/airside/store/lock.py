"""The lock on the store: many committers at once, or one that deletes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StoreLock:
    """A shared and exclusive lock; a waiting exclusive side comes first.

    Between commit and record, only the committer knows a blob. Deleting what the catalog does not
    know therefore needs the exclusive side.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._shared = 0
        self._exclusive = 0
        self._waiting = 0
        self._queued = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Holds the shared side, to commit blobs and record them. Others may do the same."""
        with self._condition:
            self._queued += 1
            try:
                self._condition.wait_for(lambda: not self._exclusive and not self._waiting)
            finally:
                self._queued -= 1
                self._condition.notify_all()
            self._shared += 1
        try:
            yield
        finally:
            with self._condition:
                self._shared -= 1
                self._condition.notify_all()

    def give_way(self) -> None:
        """Waits until those who wait for the shared side have it. Call it between two deletions."""
        with self._condition:
            self._condition.wait_for(lambda: not self._queued)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the exclusive side, to delete blobs: nobody commits meanwhile."""
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: not self._exclusive and not self._shared)
            finally:
                self._waiting -= 1
            self._exclusive = 1
        try:
            yield
        finally:
            with self._condition:
                self._exclusive = 0
                self._condition.notify_all()
