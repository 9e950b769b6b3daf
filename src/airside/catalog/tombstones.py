"""Tombstones: names deleted of an archive that is still present, until it is dropped again."""

import sqlite3

from airside.catalog.documents import repository_id_of
from airside.catalog.model import ClaimedName

Deleted = frozenset[tuple[int, str]]
"""(repository, tag) of names, (repository, `@digest`) of documents."""


def delete_claim(db: sqlite3.Connection, claim: sqlite3.Row, now: float) -> None:
    """Deletes a claim; if its archive is present, records a tombstone.

    The row has the claim's columns, and `kind`, `state` and `path` of its source.
    """
    db.execute(
        "DELETE FROM claim WHERE source_id = ? AND position = ?",
        (claim["source_id"], claim["position"]),
    )
    if claim["state"] == "removed":
        return
    tag = claim["tag"] or f"@{claim['digest']}"
    db.execute(
        "INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?, '', ?)",
        (claim["repository_id"], tag, claim["path"], now),
    )


def deleted_names(db: sqlite3.Connection, source_id: int) -> Deleted:
    """Returns the names that were deleted of a source since it was dropped."""
    rows = db.execute(
        "SELECT t.repository_id, t.tag FROM tombstone t JOIN source s ON s.path = t.source_path"
        " WHERE s.id = ?",
        (source_id,),
    )
    return frozenset((row["repository_id"], row["tag"]) for row in rows)


def is_deleted(db: sqlite3.Connection, claim: ClaimedName, deleted: Deleted) -> bool:
    """Returns True if the claim's tag was deleted, or the document of one without a tag."""
    key = repository_id_of(db, claim.repository)
    return (key, claim.tag or f"@{claim.digest}") in deleted
