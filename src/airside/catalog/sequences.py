"""Numbers that are given once: the order of sources, and their ids."""

import sqlite3


def next_sequence(db: sqlite3.Connection) -> int:
    """The number of what comes now: what is newer has a higher one (design 4.13)."""
    number = _highest_sequence(db) + 1
    reserve_sequence(db, number)
    return number


def reserve_sequence(db: sqlite3.Connection, number: int) -> None:
    """Give no number up to this one any more."""
    if number > _highest_sequence(db):
        db.execute("INSERT OR REPLACE INTO meta VALUES ('sequence', ?)", (str(number),))


def _highest_sequence(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
    return int(row["value"]) if row is not None else 0


def next_source_id(db: sqlite3.Connection) -> int:
    """One that no source had before: an import may be at work for one that is forgotten."""
    row = db.execute("SELECT value FROM meta WHERE key = 'source'").fetchone()
    highest = db.execute("SELECT max(id) FROM source").fetchone()[0] or 0
    number = max(int(row["value"]) if row else 0, highest) + 1
    db.execute("INSERT OR REPLACE INTO meta VALUES ('source', ?)", (str(number),))
    return number
