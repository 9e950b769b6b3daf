"""Generations: the kept versions of a tag, for rollbacks."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from airside.catalog.tag_names import TagName


@dataclass(frozen=True, slots=True)
class TagTarget:
    """The target of a tag: the document, the source that it follows, and its parts.

    `merged`: the document is an index that was merged here.
    """

    digest: str
    source_id: int | None
    sequence: int
    parts: list[dict[str, Any]]
    merged: bool = False


def record_generation(db: sqlite3.Connection, name: TagName, target: TagTarget, now: float) -> str:
    """Records the target as the newest generation. Returns the path of its source."""
    row = db.execute("SELECT path FROM source WHERE id = ?", (target.source_id,)).fetchone()
    path = str(row["path"]) if row is not None else ""
    platforms = sorted({p["platform"] for p in target.parts})
    db.execute(
        "INSERT INTO tag_generation (repository_id, tag, sequence, digest, source_path,"
        " platforms, at, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *name.key,
            target.sequence,
            target.digest,
            path,
            json.dumps(platforms),
            now,
            json.dumps(target.parts),
        ),
    )
    return path


def earlier_target(db: sqlite3.Connection, name: TagName, digest: str, sequence: int) -> TagTarget:
    """Returns an earlier generation of the tag as a target with this sequence number."""
    found = db.execute(
        "SELECT * FROM tag_generation WHERE repository_id = ? AND tag = ? AND digest = ?"
        " ORDER BY id DESC LIMIT 1",
        (*name.key, digest),
    ).fetchone()
    if found is None:
        return TagTarget(digest, None, sequence, [])
    source = db.execute("SELECT id FROM source WHERE path = ?", (found["source_path"],)).fetchone()
    source_id = int(source["id"]) if source is not None else None
    return TagTarget(digest, source_id, sequence, json.loads(found["parts"]))


def earlier_digests(db: sqlite3.Connection, name: TagName, current: str) -> list[str]:
    """Returns the digests of the kept generations except the current one, newest first."""
    rows = db.execute(
        "SELECT digest FROM tag_generation WHERE repository_id = ? AND tag = ?"
        " AND digest != ? ORDER BY id DESC",
        (*name.key, current),
    )
    return [str(row["digest"]) for row in rows]


def forget_generations(db: sqlite3.Connection, name: TagName, source_id: int, path: str) -> None:
    """Deletes the earlier generations of a tag that this source had a part in."""
    rows = db.execute(
        "SELECT id, source_path, parts FROM tag_generation WHERE repository_id = ? AND tag = ?"
        " ORDER BY id DESC",
        name.key,
    ).fetchall()
    gone = [
        (row["id"],)
        for row in rows[1:]
        if row["source_path"] == path
        or any(part["source_id"] == source_id for part in json.loads(row["parts"]))
    ]
    db.executemany("DELETE FROM tag_generation WHERE id = ?", gone)
