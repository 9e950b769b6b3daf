"""The parts of a tag: its manifest for each platform, and the index merged from them."""

import sqlite3
from typing import Any

from airside.catalog.documents import hold_blob, link_blobs, link_referrers, record_document
from airside.catalog.tag_names import TagName
from airside.catalog.tag_policy import Chosen
from airside.oci.digest import parse_digest
from airside.oci.merge import Entry, merged_index
from airside.oci.model import Descriptor, Document
from airside.oci.platform import parse_platform


def part_rows(
    db: sqlite3.Connection, name: TagName, chosen: tuple[Chosen, ...]
) -> list[dict[str, Any]]:
    """Returns the rows of the tag's parts.

    `version` counts replacements: a part that stays while another is replaced falls behind.
    """
    before = {
        r["platform"]: r
        for r in db.execute("SELECT * FROM tag_part WHERE repository_id = ? AND tag = ?", name.key)
    }
    top = max((r["version"] for r in before.values()), default=0)
    alone = len({part.claim.source_id for part in chosen}) == 1
    rows = []
    for part in chosen:
        old = before.get(part.platform)
        if alone:
            version = 0
        elif old is None:
            version = top
        elif old["digest"] == part.digest:
            version = old["version"]
        else:
            version = top if old["version"] < top else top + 1
        rows.append(
            {
                "platform": part.platform,
                "digest": part.digest,
                "source_id": part.claim.source_id,
                "sequence": part.claim.sequence,
                "version": version,
            }
        )
    return rows


def write_parts(db: sqlite3.Connection, name: TagName, parts: list[dict[str, Any]]) -> None:
    """Replaces the rows of the tag's parts."""
    db.execute("DELETE FROM tag_part WHERE repository_id = ? AND tag = ?", name.key)
    db.executemany(
        "INSERT INTO tag_part VALUES (?, ?, ?, ?, (SELECT id FROM source WHERE id = ?), ?, ?)",
        [
            (*name.key, p["platform"], p["digest"], p["source_id"], p["sequence"], p["version"])
            for p in parts
        ],
    )


def merged_parts(db: sqlite3.Connection, chosen: tuple[Chosen, ...]) -> Document:
    """Returns the index that lists these parts."""
    return merged_index(
        [
            Entry(
                parse_platform(part.platform),
                _descriptor(db, part.digest),
                tuple(_descriptor(db, digest) for digest in part.attestations),
            )
            for part in chosen
        ]
    )


def record_merged(db: sqlite3.Connection, name: TagName, document: Document, now: float) -> None:
    """Records a merged index that is durable in the store; links it to the tag's repository."""
    digest = str(document.digest)
    record_document(db, document, "")
    hold_blob(db, document.digest, document.size_bytes, now)
    link_blobs(db, [name.repository_id], digest)
    link_referrers(db, [digest])


def merged_sources(db: sqlite3.Connection, name: TagName) -> tuple[dict[str, str], dict[str, str]]:
    """Returns platform → path of the archive: of all parts, and of those that fell behind."""
    rows = db.execute(
        "SELECT p.platform, p.version, s.path FROM tag_part p"
        " LEFT JOIN source s ON s.id = p.source_id"
        " WHERE p.repository_id = ? AND p.tag = ? ORDER BY p.platform",
        name.key,
    ).fetchall()
    top = max(r["version"] for r in rows)
    behind = {r["platform"]: r["path"] or "" for r in rows if r["version"] < top}
    return {r["platform"]: r["path"] or "" for r in rows}, behind


def _descriptor(db: sqlite3.Connection, digest: str) -> Descriptor:
    row = db.execute(
        "SELECT media_type, length(raw) AS size FROM document WHERE digest = ?", (digest,)
    ).fetchone()
    return Descriptor(row["media_type"], parse_digest(digest), row["size"])
