"""Numbers that are used once: the sequence numbers of sources, and their ids."""

import sqlite3


def next_sequence(db: sqlite3.Connection) -> int:
    """Returns the next sequence number: a newer source has a higher one."""
    number = _highest_sequence(db) + 1
    reserve_sequence(db, number)
    return number


def reserve_sequence(db: sqlite3.Connection, number: int) -> None:
    """Makes `next_sequence` return higher numbers than this one."""
    if number > _highest_sequence(db):
        db.execute("INSERT OR REPLACE INTO meta VALUES ('sequence', ?)", (str(number),))


def _highest_sequence(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
    return int(row["value"]) if row is not None else 0


def next_source_id(db: sqlite3.Connection) -> int:
    """Returns an id that no source had before: an import may still run for a forgotten source."""
    row = db.execute("SELECT value FROM meta WHERE key = 'source'").fetchone()
    highest = db.execute("SELECT max(id) FROM source").fetchone()[0] or 0
    number = max(int(row["value"]) if row else 0, highest) + 1
    db.execute("INSERT OR REPLACE INTO meta VALUES ('source', ?)", (str(number),))
    return number
