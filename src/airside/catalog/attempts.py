"""Attempts to import an archive that have not ended: a process that dies leaves its attempt here.

What always holds: the note of an attempt is committed before the archive is opened, and deleted
when the attempt ends in any way but the death of the process. Deaths count for one file, by its
stat key.
"""

import json
from dataclasses import asdict, dataclass

from airside.catalog.database import Readers
from airside.catalog.transactions import Transactions

_KEY = "attempt:"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt, with the deaths of those before it. `cut` is true if one was a power cut."""

    stat_key: str
    boot_id: str
    kills: int = 0
    cut: bool = False

    @property
    def deaths(self) -> int:
        """The deaths that count: all power cuts together are one."""
        return self.kills + self.cut

    def after_death(self, stat_key: str, boot_id: str) -> "Attempt":
        """Returns the next attempt, where this one did not end."""
        if self.stat_key != stat_key:
            return Attempt(stat_key, boot_id)
        if self.boot_id != boot_id:
            return Attempt(stat_key, boot_id, self.kills, cut=True)
        return Attempt(stat_key, boot_id, self.kills + 1, self.cut)


class Attempts:
    """Records attempts. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions, readers: Readers) -> None:
        self._transactions, self._readers = transactions, readers

    def next(self, source_id: int, stat_key: str, boot_id: str) -> Attempt:
        """Returns the attempt that would follow; records nothing."""
        rows = self._readers.rows("SELECT value FROM meta WHERE key = ?", f"{_KEY}{source_id}")
        if not rows:
            return Attempt(stat_key, boot_id)
        return Attempt(**json.loads(rows[0]["value"])).after_death(stat_key, boot_id)

    def begin(self, source_id: int, attempt: Attempt) -> None:
        with self._transactions.begin("record an attempt") as db:
            value = json.dumps(asdict(attempt))
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"{_KEY}{source_id}", value))

    def end(self, source_id: int) -> None:
        """Forgets an attempt that ended, and all deaths before it."""
        with self._transactions.begin("end an attempt") as db:
            db.execute("DELETE FROM meta WHERE key = ?", (f"{_KEY}{source_id}",))

    def excuse(self) -> None:
        """Takes what runs now for ended: the process was asked to stop, and may be forced to."""
        with self._transactions.begin("excuse attempts") as db:
            db.execute("DELETE FROM meta WHERE key GLOB ?", (f"{_KEY}*",))
