"""Imports: the result of reading one archive, recorded in one transaction."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from itertools import count

from airside.catalog.claims import claims_of, record_claims
from airside.catalog.documents import link_referrers, record_documents, repository_id_of
from airside.catalog.events import record_event
from airside.catalog.model import JUDGED, ClaimedName, Import, TagMove
from airside.catalog.sequences import next_sequence
from airside.catalog.tag_names import TagName
from airside.catalog.tags import Hold, Tags
from airside.catalog.transactions import Transactions
from airside.core.errors import NotFoundError
from airside.core.failpoints import fault
from airside.core.problem import Problem


class Imports:
    """Records imports. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions, hold: Hold) -> None:
        self._transactions, self._hold = transactions, hold

    def record(self, result: Import, now: float) -> list[TagMove]:
        """Records the documents, blobs and names of an archive, and where tags point now.

        Returns the tags that moved. Raises NotFoundError if the archive was removed meanwhile.
        """
        with self._transactions.begin("record an import") as db:
            source = db.execute(
                "SELECT path, sequence, stat_key, state FROM source WHERE id = ?",
                (result.source_id,),
            ).fetchone()
            if source is None or source["state"] == "removed":
                raise NotFoundError(
                    "the archive was removed during its import; nothing was recorded"
                )
            record_documents(db, result, now)
            moves: list[TagMove] = []
            if not result.keeps_claims:
                sequence = source["sequence"]
                if source["stat_key"] != result.stat_key:  # replaced after it settled
                    sequence = _renumber(db, result.source_id)
                moves = self._replace_claims(db, result, sequence, now)
            fault("catalog.in_import")
            _record_source(db, result, now)
            images = len(result.claims) or len({name for name, _ in result.pulled})
            detail = json.dumps({"images": images, "seconds": round(result.seconds, 3)})
            record_event(db, now, result.state, path=source["path"], detail=result.reason or detail)
            self._transactions.count_change(db)
        fault("catalog.after_import")
        return moves

    def _replace_claims(
        self, db: sqlite3.Connection, result: Import, sequence: int, now: float
    ) -> list[TagMove]:
        tags = Tags(db, now, self._hold)
        withheld = {(repository_id_of(db, r), tag) for r, tag in result.withheld}
        before: set[TagName] = set()
        first = 0
        for row in claims_of(db, result.source_id):
            name = TagName(row["repository_id"], row["tag"])
            before.add(name)
            where = (result.source_id, row["position"])
            if name.key in withheld:
                first = max(first, row["position"] + 1)
            else:
                db.execute("DELETE FROM claim WHERE source_id = ? AND position = ?", where)
        claimed = record_claims(db, result, ((position, sequence) for position in count(first)))
        link_referrers(db, (str(claim.digest) for claim in result.claims))
        return [
            move
            for name in sorted(before | claimed)
            if name.tag
            for move in tags.settle(name, result.on_removal)
        ]


def plan_digest(claims: Iterable[ClaimedName]) -> str:
    """Returns the digest of an archive's names and their root digests, sorted."""
    lines = sorted(f"{c.repository}:{c.tag} {c.digest}" for c in claims)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _renumber(db: sqlite3.Connection, source_id: int) -> int:
    """Gives a source the next sequence number, and returns it."""
    number = next_sequence(db)
    db.execute("UPDATE source SET sequence = ? WHERE id = ?", (number, source_id))
    return number


def _record_source(db: sqlite3.Connection, result: Import, now: float) -> None:
    db.execute(
        "UPDATE source SET state = ?, reason = ?, stat_key = ?, format = ?, compression = ?,"
        " plan_digest = ?, notes = ?, changed_at = ?, imported_at = coalesce(?, imported_at),"
        " seconds = ? WHERE id = ?",
        (
            result.state,
            result.reason,
            result.stat_key,
            result.format,
            result.compression,
            result.plan_digest,
            json.dumps(list(result.notes)),
            now,
            now if result.state in JUDGED else None,
            result.seconds,
            result.source_id,
        ),
    )
    pulled = (Problem("", name, runtime) for name, runtime in result.pulled)
    db.execute("DELETE FROM problem WHERE source_id = ?", (result.source_id,))
    db.executemany(
        "INSERT INTO problem VALUES (?, ?, ?, ?, ?)",
        [
            (result.source_id, position, p.image, p.blob, p.reason)
            for position, p in enumerate((*result.problems, *pulled))
        ],
    )
