"""Write transactions of the catalog, and the generation that counts its changes."""

import contextlib
import sqlite3
from collections.abc import Iterator

from airside.catalog.database import Writer
from airside.core.listeners import Listeners


class Transactions:
    """Begins write transactions and counts the changes that they commit. Thread-safe.

    Notifies `changes` after each commit that changed the generation, in the committing thread.
    """

    def __init__(self, writer: Writer, generation: int, changes: Listeners) -> None:
        self._writer, self._changes = writer, changes
        self._generation = self._next_generation = generation

    @property
    def generation(self) -> int:
        """The generation that was committed last."""
        return self._generation

    @contextlib.contextmanager
    def begin(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Opens a transaction that may change the generation. Raises StoreError.

        The new generation is visible only after the commit: before, a reader would cache what it
        read as an answer of the new generation.
        """
        with self._writer.lock:
            self._next_generation = self._generation
            with self._writer.transaction(doing) as db:
                yield db
            changed = self._generation != self._next_generation
            self._generation = self._next_generation
        if changed:
            self._changes.notify()

    def count_change(self, db: sqlite3.Connection) -> None:
        """Counts a change; call it once in a transaction."""
        number = self._next_generation = self._generation + 1
        db.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (str(number),))
