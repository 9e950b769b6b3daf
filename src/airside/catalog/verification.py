"""Verification: when each blob was last verified, and which are wrong. For scrub and repair."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from airside.catalog.database import Readers, Writer
from airside.catalog.events import record_event
from airside.catalog.transactions import Transactions
from airside.oci.digest import Digest, parse_digest

LAST_PASS = "scrub"  # noqa: S105 - no password but a key
"""The key of the last pass in the catalog's `meta`."""


@dataclass(frozen=True, slots=True)
class BadBlob:
    """A blob that is `quarantined` or `lost`."""

    digest: Digest
    size_bytes: int
    state: str


@dataclass(frozen=True, slots=True)
class BlobSource:
    """An archive, present or imported by hand, whose images need a blob."""

    id: int
    kind: str
    path: str
    stat_key: str


def list_unverified(
    readers: Readers, since: float, until: float, limit: int
) -> list[tuple[Digest, int]]:
    """Returns (digest, bytes) of held blobs not verified between these times, oldest first."""
    rows = readers.rows(
        "SELECT digest, size_bytes FROM blob WHERE state = 'held'"
        " AND verified_at NOT BETWEEN ? AND ? ORDER BY verified_at, digest LIMIT ?",
        since,
        until,
        limit,
    )
    return [(parse_digest(r["digest"]), r["size_bytes"]) for r in rows]


def unverified_bytes(readers: Readers, since: float, until: float) -> int:
    """Returns the bytes of the held blobs not verified between these times."""
    rows = readers.rows(
        "SELECT coalesce(sum(size_bytes), 0) AS n FROM blob WHERE state = 'held'"
        " AND verified_at NOT BETWEEN ? AND ?",
        since,
        until,
    )
    return int(rows[0]["n"])


def oldest_verified(readers: Readers) -> float | None:
    """Returns the time of the least recent verification of a held blob; None without blobs."""
    rows = readers.rows("SELECT min(verified_at) AS at FROM blob WHERE state = 'held'")
    return rows[0]["at"]  # type: ignore[no-any-return]


def list_bad(readers: Readers) -> list[BadBlob]:
    rows = readers.rows(
        "SELECT digest, size_bytes, state FROM blob WHERE state != 'held' ORDER BY digest"
    )
    return [BadBlob(parse_digest(r["digest"]), r["size_bytes"], r["state"]) for r in rows]


def list_sources_of(readers: Readers, digest: Digest) -> list[BlobSource]:
    """Returns the archives, present or imported by hand, whose images need this blob."""
    rows = readers.rows(
        "WITH RECURSIVE above(digest) AS (VALUES (?) UNION SELECT e.parent FROM edge e"
        " JOIN above ON e.child = above.digest)"
        " SELECT DISTINCT s.id, s.kind, s.path, s.stat_key FROM claim c"
        " JOIN above ON above.digest = c.digest JOIN source s ON s.id = c.source_id"
        " WHERE s.state != 'removed' AND s.kind IN ('archive', 'import') ORDER BY s.id",
        str(digest),
    )
    return [BlobSource(r["id"], r["kind"], r["path"], r["stat_key"]) for r in rows]


def count_unread(readers: Readers, source_ids: Collection[int]) -> int:
    """Returns the number of these archives that are queued or being imported."""
    rows = readers.rows(
        "SELECT count(*) AS n FROM source WHERE state IN ('queued', 'importing')"
        " AND id IN (SELECT value FROM json_each(?))",
        json.dumps(list(source_ids)),
    )
    return int(rows[0]["n"])


class Verification:
    """Records the states of blobs. Thread-safe; raises StoreError."""

    def __init__(self, writer: Writer, transactions: Transactions) -> None:
        self._writer, self._transactions = writer, transactions

    def record(self, right: Sequence[Digest], now: float, found: str) -> None:
        """Records the verified blobs, and the pass (`store.scrub_results.ScrubPass`) so far.

        Not counted as a change of the generation: the registry serves the same.
        """
        with self._writer.transaction("record what was verified") as db:
            db.executemany(
                "UPDATE blob SET verified_at = ? WHERE digest = ? AND state = 'held'",
                [(now, str(digest)) for digest in right],
            )
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (LAST_PASS, found))

    def mark_blob(self, digest: Digest, state: str, now: float) -> None:
        """Records that a blob was verified (`held`), is quarantined or lost."""
        with self._transactions.begin("mark a blob") as db:
            db.execute(
                "UPDATE blob SET state = ?, verified_at = ? WHERE digest = ?",
                (state, now, str(digest)),
            )
            if state != "held":
                record_event(db, now, state, digest=str(digest))
            self._transactions.count_change(db)

    def record_repair(self, digest: Digest, now: float, origin: str, source: str) -> bool:
        """Records that a wrong or lost blob is held.

        Returns False if the catalog no longer knows it.
        """
        with self._transactions.begin("record a repair") as db:
            known = db.execute(
                "UPDATE blob SET state = 'held', verified_at = ? WHERE digest = ?",
                (now, str(digest)),
            ).rowcount
            if known:
                detail = json.dumps({"from": origin, "source": source})
                record_event(db, now, "repaired", digest=str(digest), detail=detail)
                self._transactions.count_change(db)
        return bool(known)

    def restore_document(self, digest: Digest, raw: bytes, now: float) -> None:
        """Replaces the catalog's bytes of a document by those of its digest."""
        with self._transactions.begin("restore a document") as db:
            db.execute("UPDATE document SET raw = ? WHERE digest = ?", (raw, str(digest)))
            detail = json.dumps({"from": "store", "source": ""})
            record_event(db, now, "repaired", digest=str(digest), detail=detail)
            self._transactions.count_change(db)
