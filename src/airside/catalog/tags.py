"""Where tags point: the claims on them, their generations, and their going."""

import json
import sqlite3

from airside.catalog.documents import BELOW
from airside.catalog.events import record_event
from airside.catalog.model import TagMove
from airside.desired import Claim, decide_tag
from airside.oci.reference import Reference, Repository


def claims_of(db: sqlite3.Connection, source_id: int) -> list[sqlite3.Row]:
    return db.execute("SELECT * FROM claim WHERE source_id = ?", (source_id,)).fetchall()


def settle_tag(
    db: sqlite3.Connection, repository_id: int, tag: str, now: float, on_removal: str
) -> list[TagMove]:
    """Point one tag at what it should be now."""
    claims = [
        Claim(r["sequence"], r["digest"], r["source_id"], r["state"] != "removed")
        for r in db.execute(
            "SELECT c.sequence, c.digest, c.source_id, s.state FROM claim c"
            " JOIN source s ON s.id = c.source_id WHERE c.repository_id = ? AND c.tag = ?"
            " ORDER BY c.sequence, c.position",
            (repository_id, tag),
        )
    ]
    decision = decide_tag(claims)
    current = db.execute(
        "SELECT * FROM tag WHERE repository_id = ? AND name = ?", (repository_id, tag)
    ).fetchone()
    if decision.claim is not None and decision.backed:
        return point_tag(db, repository_id, tag, current, decision.claim, now)
    if current is None or on_removal == "keep":
        return []
    if on_removal == "delete":
        return [drop_tag(db, repository_id, tag, current["digest"], now)]
    db.execute(
        "UPDATE tag SET unbacked_since = coalesce(unbacked_since, ?)"
        " WHERE repository_id = ? AND name = ?",
        (now, repository_id, tag),
    )
    return []


def point_tag(
    db: sqlite3.Connection,
    repository_id: int,
    tag: str,
    current: sqlite3.Row | None,
    claim: Claim,
    now: float,
) -> list[TagMove]:
    """Let the tag be what the claim says; a new digest is a new generation."""
    before = current["digest"] if current is not None else ""
    moved_at = current["moved_at"] if current is not None and before == claim.digest else now
    db.execute(
        "INSERT INTO tag VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (repository_id, name)"
        " DO UPDATE SET digest = excluded.digest, source_id = excluded.source_id,"
        " sequence = excluded.sequence, moved_at = excluded.moved_at, unbacked_since = NULL",
        (repository_id, tag, claim.digest, claim.source_id, claim.sequence, moved_at),
    )
    if before == claim.digest:
        return []
    platforms = [
        r["platform"]
        for r in db.execute(
            f"{BELOW} SELECT DISTINCT d.platform FROM below"  # noqa: S608
            " JOIN document d ON d.digest = below.digest WHERE d.platform != ''"
            " ORDER BY d.platform",
            (claim.digest,),
        )
    ]
    path = db.execute("SELECT path FROM source WHERE id = ?", (claim.source_id,)).fetchone()["path"]
    db.execute(
        "INSERT INTO tag_generation (repository_id, tag, sequence, digest, source_path, platforms,"
        " at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (repository_id, tag, claim.sequence, claim.digest, path, json.dumps(platforms), now),
    )
    move = TagMove(reference_text(db, repository_id, tag), before, claim.digest)
    kind = "tag-moved" if before else "tag-added"
    record_event(
        db, now, kind, path=path, reference=move.reference, digest=claim.digest, detail=before
    )
    return [move]


def drop_tag(
    db: sqlite3.Connection, repository_id: int, tag: str, digest: str, now: float
) -> TagMove:
    """Remove a tag with its history and the claims of absent sources on it."""
    move = TagMove(reference_text(db, repository_id, tag), digest, "")
    where = (repository_id, tag)
    db.execute("DELETE FROM tag WHERE repository_id = ? AND name = ?", where)
    db.execute("DELETE FROM tag_generation WHERE repository_id = ? AND tag = ?", where)
    db.execute(
        "DELETE FROM claim WHERE repository_id = ? AND tag = ? AND source_id IN"
        " (SELECT id FROM source WHERE state = 'removed')",
        where,
    )
    record_event(db, now, "tag-removed", reference=move.reference, digest=digest)
    return move


def reference_text(db: sqlite3.Connection, repository_id: int, tag: str) -> str:
    row = db.execute("SELECT host, path FROM repository WHERE id = ?", (repository_id,)).fetchone()
    return str(Reference(Repository(row["host"], row["path"]), tag))
