"""The catalog: what is in the store, which archive brought it, where each tag points.

Always true: what one method records becomes visible and durable at once, in one transaction, after
the blobs it speaks of are durable in the store. `generation` grows with each change.
Left to others: the blobs themselves, and the decision what a tag should be (`airside.desired`).
All methods are safe to call from any thread; the time is given by the caller, in seconds.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from airside.catalog.database import Readers, Writer
from airside.catalog.documents import (
    link_referrers,
    record_claim,
    record_documents,
    repository_id_of,
)
from airside.catalog.events import record_event
from airside.catalog.garbage import sweep, trim_generations
from airside.catalog.model import ClaimedName, Import, TagMove
from airside.catalog.tags import claims_of, drop_tag, point_tag, settle_tag
from airside.catalog.view import CatalogView
from airside.desired import Claim
from airside.errors import NotFoundError
from airside.faults import fault
from airside.oci.digest import Digest
from airside.oci.model import Document


class Catalog(CatalogView):
    """The writing side; `CatalogView` reads."""

    def __init__(self, path: Path) -> None:
        self._writer = Writer(path)
        super().__init__(Readers(path))
        self._generation = self._next_generation = super().generation

    @property
    def generation(self) -> int:
        return self._generation

    def close(self) -> None:
        super().close()
        self._writer.close()

    def set_meta(self, values: Mapping[str, str]) -> None:
        with self._writer.transaction("set meta") as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def settle(
        self, files: Sequence[tuple[str, str, int]], now: float, *, kind: str = "archive"
    ) -> dict[str, int]:
        """Record files that settled, in order: (path, stat key, size). Gives their source ids.

        Each gets the next sequence number. A watched file that did not change since it got its
        number keeps it, and so does one that a rebuild restored.
        """
        ids: dict[str, int] = {}
        fault("catalog.before_settle")
        with self._transaction("record settled archives") as db:
            for path, stat_key, size in files:
                ids[path] = self._settle_one(db, kind, path, stat_key, size, now)
                record_event(db, now, "settled", path=path)
            self._changed(db)
        fault("catalog.after_settle")
        return ids

    def _settle_one(
        self, db: sqlite3.Connection, kind: str, path: str, stat_key: str, size: int, now: float
    ) -> int:
        found = db.execute(
            "SELECT id, sequence, stat_key, state FROM source WHERE kind = ? AND path = ?",
            (kind, path),
        ).fetchone()
        keeps = (
            kind == "archive"
            and found is not None
            and found["stat_key"] in {stat_key, "" if found["state"] == "imported" else stat_key}
        )
        sequence = found["sequence"] if keeps else _next_sequence(db)
        source_id = found["id"] if found is not None else _next_source_id(db)
        row = db.execute(
            "INSERT INTO source (id, kind, path, stat_key, sequence, state, size_bytes, settled_at,"
            " changed_at) VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?)"
            " ON CONFLICT (kind, path) DO UPDATE SET stat_key = excluded.stat_key,"
            " sequence = excluded.sequence, state = 'queued', reason = '',"
            " size_bytes = excluded.size_bytes, settled_at = excluded.settled_at,"
            " changed_at = excluded.changed_at RETURNING id",
            (source_id, kind, path, stat_key, sequence, size, now, now),
        ).fetchone()
        return int(row["id"])

    def set_state(self, source_id: int, state: str, now: float, *, reason: str = "") -> None:
        """Record a passing state (importing, incomplete, failed, unreadable) of a present one."""
        with self._transaction("record a state") as db:
            row = db.execute(
                "UPDATE source SET state = ?, reason = ?, changed_at = ? WHERE id = ?"
                " AND state != 'removed' AND (state != ? OR reason != ?) RETURNING path",
                (state, reason, now, source_id, state, reason),
            ).fetchone()
            if row is not None:
                record_event(db, now, state, path=row["path"], detail=reason)
                self._changed(db)

    def record_import(self, result: Import, now: float) -> list[TagMove]:
        """Record what an archive brought: documents, blobs, names, and where tags point now.

        Raises NotFoundError if the archive was removed meanwhile.
        """
        with self._transaction("record an import") as db:
            source = db.execute(
                "SELECT path, sequence, stat_key, state FROM source WHERE id = ?",
                (result.source_id,),
            ).fetchone()
            if source is None or source["state"] == "removed":
                raise NotFoundError("the archive was removed while it was imported")
            record_documents(db, result, now)
            moves: list[TagMove] = []
            if not result.keeps_claims:
                sequence = source["sequence"]
                if source["stat_key"] != result.stat_key:  # replaced after it settled
                    sequence = _renumber(db, result.source_id)
                moves = self._replace_claims(db, result, sequence, now)
            fault("catalog.in_import")
            _record_source(db, result, now)
            detail = json.dumps({"images": len(result.claims), "seconds": round(result.seconds, 3)})
            record_event(db, now, result.state, path=source["path"], detail=result.reason or detail)
            self._changed(db)
        fault("catalog.after_import")
        return moves

    def _replace_claims(
        self, db: sqlite3.Connection, result: Import, sequence: int, now: float
    ) -> list[TagMove]:
        withheld = {(repository_id_of(db, r), tag) for r, tag in result.withheld}
        before: set[tuple[int, str]] = set()
        first = 0
        for row in claims_of(db, result.source_id):
            before.add((row["repository_id"], row["tag"]))
            where = (result.source_id, row["position"])
            if (row["repository_id"], row["tag"]) in withheld:
                first = max(first, row["position"] + 1)
            else:
                db.execute("DELETE FROM claim WHERE source_id = ? AND position = ?", where)
        now_claimed: set[tuple[int, str]] = set()
        for position, claim in enumerate(result.claims, first):
            repository_id = record_claim(db, result.source_id, position, claim, sequence)
            now_claimed.add((repository_id, claim.tag))
        link_referrers(db)
        return [
            move
            for repository_id, tag in sorted(before | now_claimed)
            if tag
            for move in settle_tag(db, repository_id, tag, now, result.on_removal)
        ]

    def remove_sources(self, removals: Mapping[str, str], now: float) -> list[TagMove]:
        """Record archives that are gone: path → policy (`unpin`, `delete`, `keep`)."""
        moves: list[TagMove] = []
        changed = False
        with self._transaction("record removed archives") as db:
            for path, policy in removals.items():
                row = db.execute(
                    "UPDATE source SET state = 'removed', stat_key = '', changed_at = ?,"
                    " reason = '' WHERE kind = 'archive' AND path = ? AND state != 'removed'"
                    " RETURNING id",
                    (now, path),
                ).fetchone()
                if row is None:
                    continue
                changed = True
                fault("catalog.in_remove")
                record_event(db, now, "removed", path=path, detail=policy)
                claims = claims_of(db, row["id"])
                if policy == "delete":
                    db.execute("DELETE FROM claim WHERE source_id = ?", (row["id"],))
                for claim in claims:
                    if claim["tag"]:
                        where = (claim["repository_id"], claim["tag"])
                        moves += settle_tag(db, *where, now, policy)
            if changed:
                self._changed(db)
        fault("catalog.after_remove")
        return moves

    def read_again(self, source_ids: Iterable[int], now: float, reason: str) -> None:
        """Queue these archives with a reason: what they brought is missing from the store.

        They keep their stat keys and so, if unchanged, their sequence numbers.
        """
        with self._transaction("mark archives to be read again") as db:
            for source_id in source_ids:
                row = db.execute(
                    "UPDATE source SET state = 'queued', changed_at = ?, reason = ?"
                    " WHERE id = ? AND state != 'removed' RETURNING path",
                    (now, reason, source_id),
                ).fetchone()
                if row is not None:
                    record_event(db, now, "queued", path=row["path"], detail=reason)
            self._changed(db)

    def mark_blob(self, digest: Digest, state: str, now: float) -> None:
        """Record that a blob was verified (`held`), is quarantined or lost."""
        with self._transaction("mark a blob") as db:
            db.execute(
                "UPDATE blob SET state = ?, verified_at = ? WHERE digest = ?",
                (state, now, str(digest)),
            )
            if state != "held":
                record_event(db, now, state, digest=str(digest))
            self._changed(db)

    def collect(self, now: float, *, retention: int, unbacked_after_seconds: float) -> list[Digest]:
        """Drop what nothing holds any more; gives the blobs that the store may delete.

        Roots (design 4.3): current tags, retained generations, claims of present sources, and
        referrers whose subject is held. Tags unbacked for too long go first.
        """
        with self._transaction("collect garbage") as db:
            limit = now - unbacked_after_seconds
            expired = db.execute(
                "SELECT repository_id, name, digest FROM tag WHERE unbacked_since <= ?", (limit,)
            ).fetchall()
            for row in expired:
                drop_tag(db, row["repository_id"], row["name"], row["digest"], now)
            forgotten = db.execute(
                "DELETE FROM claim WHERE source_id IN (SELECT id FROM source"
                " WHERE state = 'removed' AND changed_at <= ?)",
                (limit,),
            ).rowcount
            db.execute(
                "DELETE FROM source WHERE state = 'removed' AND changed_at <= ?"
                " AND id NOT IN (SELECT source_id FROM claim)",
                (limit,),
            )
            trim_generations(db, retention)
            freed, swept = sweep(db)
            if freed:
                record_event(db, now, "collected", detail=json.dumps({"blobs": len(freed)}))
            if swept or expired or forgotten:
                self._changed(db)
        return [Digest(*text.split(":", 1)) for text in freed]

    def restore(
        self,
        path: str,
        claims: Sequence[tuple[ClaimedName, int]],
        documents: Iterable[Document],
        platforms: Mapping[Digest, str],
        blobs: Mapping[Digest, int],
        *,
        sequence: int,
        present: bool,
        now: float,
        kind: str = "archive",
    ) -> None:
        """Record a source again from `index.json`, after the catalog was lost.

        One that is `present` is read again when the watch sees it and keeps its sequence.
        """
        state = "imported" if present else "removed"
        with self._transaction("restore") as db:
            row = db.execute(
                "INSERT INTO source (kind, path, sequence, state, settled_at, changed_at)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                (kind, path, sequence, state, now, now),
            ).fetchone()
            result = Import(
                source_id=row["id"],
                state=state,
                stat_key="",
                plan_digest="",
                format="",
                compression="",
                seconds=0.0,
                claims=tuple(c for c, _ in claims),
                documents=tuple(documents),
                platforms=platforms,
                blobs=blobs,
            )
            record_documents(db, result, now)
            for position, (claim, number) in enumerate(claims):
                repository_id = record_claim(db, row["id"], position, claim, number)
                if claim.tag:
                    point_tag(
                        db,
                        repository_id,
                        claim.tag,
                        None,
                        Claim(number, str(claim.digest), row["id"], present),
                        now,
                    )
                    if not present:
                        settle_tag(db, repository_id, claim.tag, now, "unpin")
            link_referrers(db)
            self._changed(db)

    @contextlib.contextmanager
    def _transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        """A transaction that may change the generation, which is told only after the commit.

        Told before, a reader would keep what it read as an answer of the new generation.
        """
        with self._writer.lock:
            self._next_generation = self._generation
            with self._writer.transaction(doing) as db:
                yield db
            self._generation = self._next_generation

    def _changed(self, db: sqlite3.Connection) -> None:
        """Count a change; called once in a transaction."""
        number = self._next_generation = self._generation + 1
        db.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (str(number),))


def plan_digest(claims: Iterable[ClaimedName]) -> str:
    """The digest of what an archive says: sorted names and their root digests."""
    lines = sorted(f"{c.repository}:{c.tag} {c.digest}" for c in claims)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _next_sequence(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
    highest = db.execute("SELECT max(sequence) FROM source").fetchone()[0] or 0
    number = max(int(row["value"]) if row else 0, highest) + 1
    db.execute("INSERT OR REPLACE INTO meta VALUES ('sequence', ?)", (str(number),))
    return number


def _next_source_id(db: sqlite3.Connection) -> int:
    """One that no source had before: an import may be at work for one that is forgotten."""
    row = db.execute("SELECT value FROM meta WHERE key = 'source'").fetchone()
    highest = db.execute("SELECT max(id) FROM source").fetchone()[0] or 0
    number = max(int(row["value"]) if row else 0, highest) + 1
    db.execute("INSERT OR REPLACE INTO meta VALUES ('source', ?)", (str(number),))
    return number


def _renumber(db: sqlite3.Connection, source_id: int) -> int:
    """Give a source the next sequence number."""
    number = _next_sequence(db)
    db.execute("UPDATE source SET sequence = ? WHERE id = ?", (number, source_id))
    return number


def _record_source(db: sqlite3.Connection, result: Import, now: float) -> None:
    db.execute(
        "UPDATE source SET state = ?, reason = ?, stat_key = ?, format = ?, compression = ?,"
        " plan_digest = ?, notes = ?, changed_at = ?, imported_at = ?, seconds = ? WHERE id = ?",
        (
            result.state,
            result.reason,
            result.stat_key,
            result.format,
            result.compression,
            result.plan_digest,
            json.dumps(list(result.notes)),
            now,
            now,
            result.seconds,
            result.source_id,
        ),
    )
    db.execute("DELETE FROM problem WHERE source_id = ?", (result.source_id,))
    db.executemany(
        "INSERT INTO problem VALUES (?, ?, ?, ?, ?)",
        [
            (result.source_id, position, p.image, p.blob, p.reason)
            for position, p in enumerate(result.problems)
        ],
    )
