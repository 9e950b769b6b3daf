"""The recorded times by which things expire: noted, and corrected after a clock that was wrong."""

from airside.catalog.transactions import Transactions
from airside.core.clock import Correction

NOTED_TIME = "time"
"""The key of the noted time in the catalog's `meta`."""
_FIRST = 1_767_225_600.0
"""2026-01-01: before Airside existed, so an earlier time was recorded by a clock that was wrong."""
_SLACK_SECONDS = 86_400.0
_COLUMNS = (
    ("tag", "moved_at"),
    ("tag", "unbacked_since"),
    ("tag_generation", "at"),
    ("source", "changed_at"),
    ("pushed", "at"),
)


def parse_noted(text: str | None) -> float | None:
    """Returns the noted time; None if there is none or it cannot be read."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


class RecordedTimes:
    """Notes and corrects times. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def note(self, now: float) -> None:
        """Notes the believed time: no later process records an earlier one."""
        with self._transactions.begin("note the time") as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (NOTED_TIME, repr(now)))

    def correct(self, correction: Correction) -> int:
        """Moves what was recorded while the clock was behind. Returns the number of rows.

        A time that cannot be, before Airside existed or in the future, becomes now.
        """
        now, count = correction.now, 0
        with self._transactions.begin("correct times") as db:
            for table, column in _COLUMNS:
                count += db.execute(
                    f"UPDATE {table} SET {column} = CASE"  # noqa: S608
                    f" WHEN {column} BETWEEN ?1 AND ?2 THEN {column} + ?3 ELSE ?4 END"
                    f" WHERE {column} BETWEEN ?1 AND ?2 OR {column} < ?5 OR {column} > ?4 + ?6",
                    (
                        correction.since,
                        correction.until,
                        correction.by_seconds,
                        now,
                        min(_FIRST, now),
                        _SLACK_SECONDS,
                    ),
                ).rowcount
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (NOTED_TIME, repr(now)))
        return count
