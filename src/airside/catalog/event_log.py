"""The recorded events in the order in which they happened, for those who follow them.

Events are deleted oldest first (`catalog.events`); a follower that is too late misses them, and
sees that by the numbers.
"""

from airside.catalog.database import Readers, Writer
from airside.catalog.events import record_event
from airside.catalog.model import EventRow


class EventLog:
    """Reads and adds events. Thread-safe; raises StoreError."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer, self._readers = writer, readers

    def record(self, kind: str, now: float, detail: str = "") -> None:
        """Records something that happened beside the catalog."""
        with self._writer.transaction("record an event") as db:
            record_event(db, now, kind, detail=detail)

    def newest(self) -> int:
        """Returns the number of the newest event; 0 if there is none."""
        rows = self._readers.rows("SELECT max(id) AS id FROM event")
        return int(rows[0]["id"] or 0)

    def oldest(self) -> int:
        """Returns the number of the oldest event that is kept; 0 if there is none."""
        rows = self._readers.rows("SELECT min(id) AS id FROM event")
        return int(rows[0]["id"] or 0)

    def after(self, number: int, limit: int) -> list[EventRow]:
        """Returns the first events above a number, oldest first."""
        rows = self._readers.rows(
            "SELECT * FROM event WHERE id > ? ORDER BY id LIMIT ?", number, limit
        )
        return [EventRow(**dict(row)) for row in rows]
