"""The blobs of each repository: those it has, and those kept for the grace time."""

import json
import sqlite3
from collections.abc import Iterable, Sequence

from airside.catalog.documents import BELOW
from airside.oci.digest import Digest


def link_blob(db: sqlite3.Connection, repository_id: int, digest: Digest, now: float) -> None:
    key = (repository_id, str(digest))
    db.execute("INSERT OR IGNORE INTO repository_blob VALUES (?, ?)", key)
    keep_for_grace(db, *key, now)


def keep_for_grace(db: sqlite3.Connection, repository_id: int, digest: str, now: float) -> None:
    """Keeps the blob from garbage collection for the grace time from now."""
    db.execute("INSERT OR REPLACE INTO pushed VALUES (?, ?, ?)", (repository_id, digest, now))


def unlink_blob(db: sqlite3.Connection, repository_id: int, digest: str) -> None:
    for table in ("repository_blob", "pushed"):
        db.execute(
            f"DELETE FROM {table} WHERE repository_id = ? AND digest = ?",  # noqa: S608
            (repository_id, digest),
        )


def link_below(
    db: sqlite3.Connection, repository_id: int, root: str, readable: Sequence[int]
) -> None:
    """Links the document to the repository, and of what is below it what the client could read."""
    db.execute(
        f"{BELOW} INSERT OR IGNORE INTO repository_blob SELECT ?, digest FROM below"  # noqa: S608
        " WHERE digest = ? OR EXISTS (SELECT 1 FROM repository_blob r WHERE"
        " r.digest = below.digest AND r.repository_id IN (SELECT value FROM json_each(?)))",
        (root, repository_id, root, json.dumps(readable)),
    )


def held_sizes(
    db: sqlite3.Connection, digests: Iterable[Digest], repository_ids: Sequence[int]
) -> dict[str, int]:
    """Returns the sizes of those digests that are held and belong to one of the repositories."""
    rows = db.execute(
        "SELECT b.digest, b.size_bytes FROM blob b WHERE b.state = 'held'"
        " AND b.digest IN (SELECT value FROM json_each(?)) AND EXISTS (SELECT 1 FROM"
        " repository_blob r WHERE r.digest = b.digest AND r.repository_id IN"
        " (SELECT value FROM json_each(?)))",
        (json.dumps([str(d) for d in digests]), json.dumps(list(repository_ids))),
    )
    return {row["digest"]: row["size_bytes"] for row in rows}


def has_document(db: sqlite3.Connection, repository_id: int, digest: str) -> bool:
    row = db.execute(
        "SELECT 1 FROM document d JOIN repository_blob r ON r.digest = d.digest"
        " WHERE r.repository_id = ? AND d.digest = ?",
        (repository_id, digest),
    ).fetchone()
    return row is not None
