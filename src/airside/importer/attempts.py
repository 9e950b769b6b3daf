"""Runs imports so that an archive that kills the agent is not tried without end. Blocking.

An archive whose import did not end before the process died is imported alone: if the next process
dies too, no other archive was read. After two deaths it is rejected. Thread-safe.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airside.archive.stop import Stop
from airside.catalog.attempts import Attempt, Attempts
from airside.core.errors import ArchiveError, StoppedError, StoreError

log = logging.getLogger("airside.import")

MOST_DEATHS = 2
_STOP_POLL_SECONDS = 0.1


class DeadlyArchiveError(ArchiveError):
    """The process died each time that it read this archive."""

    code = "archive_deadly"


class AttemptGuard:
    """Counts the deaths of the process during imports. `boot_id`: a power cut changes it."""

    def __init__(self, attempts: Attempts, boot_id: Callable[[], str]) -> None:
        self._attempts, self._boot_id = attempts, boot_id
        self._changed = threading.Condition()
        self._running = self._waiting_alone = 0
        self._alone = False
        self._ended: set[int] = set()
        """Sources of ended attempts that the catalog still has, since it could not be written."""

    @contextmanager
    def attempt(self, source_id: int, stat_key: str, stop: Stop) -> Iterator[None]:
        """Holds the note of one import. Raises DeadlyArchiveError, StoppedError, StoreError."""
        attempt = self._next(source_id, stat_key)
        if attempt.deaths >= MOST_DEATHS:
            raise DeadlyArchiveError(
                f"the agent died {attempt.deaths} times while it read this archive, perhaps for "
                "want of memory: it is not read again until the file changes (`touch` is enough) "
                "or is imported by hand with `airside import`"
            )
        with self._turn(stop, alone=attempt.deaths > 0):
            self._attempts.begin(source_id, attempt)
            self._ended.discard(source_id)
            try:
                yield
            finally:
                self._end(source_id)

    def _next(self, source_id: int, stat_key: str) -> Attempt:
        boot_id = self._boot_id()
        if source_id in self._ended:
            return Attempt(stat_key, boot_id)
        return self._attempts.next(source_id, stat_key, boot_id)

    def _end(self, source_id: int) -> None:
        """Records the end. A failure does not change the result of the import."""
        try:
            self._attempts.end(source_id)
        except StoreError as exc:
            self._ended.add(source_id)
            log.warning("the end of an import is not recorded: %s", exc.message)

    def forgive(self, source_id: int) -> None:
        """Forgets the deaths of an archive: a person decided to import it."""
        self._attempts.end(source_id)

    @contextmanager
    def _turn(self, stop: Stop, *, alone: bool) -> Iterator[None]:
        """Waits until nobody runs alone or waits to, and with `alone` until nobody runs."""
        with self._changed:
            self._waiting_alone += alone
            try:
                while self._alone or (self._running if alone else self._waiting_alone):
                    if stop():
                        raise StoppedError("the import was stopped")
                    self._changed.wait(_STOP_POLL_SECONDS)
            finally:
                self._waiting_alone -= alone
            self._running += 1
            self._alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._alone = False
                self._changed.notify_all()
