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
from airside.catalog.model import ClaimedName, Import, TagMove
from airside.catalog.view import CatalogView
from airside.desired import Claim, decide_tag
from airside.errors import NotFoundError
from airside.faults import fault
from airside.oci.digest import Digest
from airside.oci.model import Document, Index
from airside.oci.reference import Reference, Repository

_EVENTS_KEPT = 10_000


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
                _event(db, now, "settled", path=path)
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
                _event(db, now, state, path=row["path"], detail=reason)
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
            _record_documents(db, result, now)
            moves: list[TagMove] = []
            if not result.keeps_claims:
                sequence = source["sequence"]
                if source["stat_key"] != result.stat_key:  # replaced after it settled
                    sequence = _renumber(db, result.source_id)
                moves = self._replace_claims(db, result, sequence, now)
            fault("catalog.in_import")
            _record_source(db, result, now)
            detail = json.dumps({"images": len(result.claims), "seconds": round(result.seconds, 3)})
            _event(db, now, result.state, path=source["path"], detail=result.reason or detail)
            self._changed(db)
        fault("catalog.after_import")
        return moves

    def _replace_claims(
        self, db: sqlite3.Connection, result: Import, sequence: int, now: float
    ) -> list[TagMove]:
        before = {(r["repository_id"], r["tag"]) for r in _claims_of(db, result.source_id)}
        db.execute("DELETE FROM claim WHERE source_id = ?", (result.source_id,))
        now_claimed: set[tuple[int, str]] = set()
        for position, claim in enumerate(result.claims):
            repository_id = _repository_id(db, claim.repository)
            db.execute(
                "INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    result.source_id,
                    position,
                    repository_id,
                    claim.tag,
                    str(claim.digest),
                    sequence,
                    claim.alias,
                ),
            )
            _link_blobs(db, repository_id, str(claim.digest))
            now_claimed.add((repository_id, claim.tag))
        return [
            move
            for repository_id, tag in sorted(before | now_claimed)
            if tag
            for move in self._settle_tag(db, repository_id, tag, now, result.on_removal)
        ]

    def _settle_tag(
        self, db: sqlite3.Connection, repository_id: int, tag: str, now: float, on_removal: str
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
            return _point(db, repository_id, tag, current, decision.claim, now)
        if current is None or on_removal == "keep":
            return []
        if on_removal == "delete":
            return [_drop_tag(db, repository_id, tag, current["digest"], now)]
        db.execute(
            "UPDATE tag SET unbacked_since = coalesce(unbacked_since, ?)"
            " WHERE repository_id = ? AND name = ?",
            (now, repository_id, tag),
        )
        return []

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
                _event(db, now, "removed", path=path, detail=policy)
                claims = _claims_of(db, row["id"])
                if policy == "delete":
                    db.execute("DELETE FROM claim WHERE source_id = ?", (row["id"],))
                for claim in claims:
                    if claim["tag"]:
                        where = (claim["repository_id"], claim["tag"])
                        moves += self._settle_tag(db, *where, now, policy)
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
                    _event(db, now, "queued", path=row["path"], detail=reason)
            self._changed(db)

    def mark_blob(self, digest: Digest, state: str, now: float) -> None:
        """Record that a blob was verified (`held`), is quarantined or lost."""
        with self._transaction("mark a blob") as db:
            db.execute(
                "UPDATE blob SET state = ?, verified_at = ? WHERE digest = ?",
                (state, now, str(digest)),
            )
            if state != "held":
                _event(db, now, state, digest=str(digest))
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
                _drop_tag(db, row["repository_id"], row["name"], row["digest"], now)
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
            _trim_generations(db, retention)
            freed = _sweep(db)
            if freed:
                _event(db, now, "collected", detail=json.dumps({"blobs": len(freed)}))
            if freed or expired or forgotten:
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
            _record_documents(db, result, now)
            for position, (claim, number) in enumerate(claims):
                repository_id = _repository_id(db, claim.repository)
                db.execute(
                    "INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (row["id"], position, repository_id, claim.tag, str(claim.digest), number, ""),
                )
                _link_blobs(db, repository_id, str(claim.digest))
                if claim.tag:
                    _point(
                        db,
                        repository_id,
                        claim.tag,
                        None,
                        Claim(number, str(claim.digest), row["id"], present),
                        now,
                    )
                    if not present:
                        self._settle_tag(db, repository_id, claim.tag, now, "unpin")
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


def _claims_of(db: sqlite3.Connection, source_id: int) -> list[sqlite3.Row]:
    return db.execute("SELECT * FROM claim WHERE source_id = ?", (source_id,)).fetchall()


def _repository_id(db: sqlite3.Connection, repository: Repository) -> int:
    key = (repository.host, repository.path)
    db.execute("INSERT OR IGNORE INTO repository (host, path) VALUES (?, ?)", key)
    row = db.execute("SELECT id FROM repository WHERE host = ? AND path = ?", key).fetchone()
    return int(row["id"])


# The bytes decide all but two things: the platform, if an archive before lacked the config, and the
# media type, if they don't have it themselves, which only OCI allows (manifest.md, mediaType).
_KNOWN_DOCUMENT = (
    "ON CONFLICT (digest) DO UPDATE SET"
    " platform = CASE platform WHEN '' THEN excluded.platform ELSE platform END,"
    " media_type = CASE WHEN excluded.media_type LIKE 'application/vnd.oci.%'"
    " THEN excluded.media_type ELSE media_type END"
)


def _record_documents(db: sqlite3.Connection, result: Import, now: float) -> None:
    for digest, size in result.blobs.items():
        db.execute(
            "INSERT INTO blob VALUES (?, ?, ?, 'held')"
            " ON CONFLICT (digest)"
            " DO UPDATE SET state = 'held', verified_at = excluded.verified_at",
            (str(digest), size, now),
        )
    for document in result.documents:
        known = db.execute(
            "SELECT 1 FROM document WHERE digest = ?", (str(document.digest),)
        ).fetchone()
        db.execute(
            f"INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?) {_KNOWN_DOCUMENT}",  # noqa: S608
            (
                str(document.digest),
                document.media_type,
                document.raw,
                _artifact_type(document),
                str(document.subject.digest) if document.subject else "",
                result.platforms.get(document.digest, ""),
                json.dumps(dict(document.annotations)),
            ),
        )
        if known is None:
            db.executemany(
                "INSERT OR IGNORE INTO edge (parent, child, kind, position) VALUES (?, ?, ?, ?)",
                list(_edges(document)),
            )


def _artifact_type(document: Document) -> str:
    """What referrers are filtered by: artifactType, else the config's media type."""
    if document.artifact_type or isinstance(document.content, Index):
        return document.artifact_type
    return document.content.config.media_type


def _edges(document: Document) -> Iterable[tuple[str, str, str, int]]:
    parent = str(document.digest)
    if isinstance(document.content, Index):
        for position, child in enumerate(document.content.manifests):
            yield parent, str(child.digest), "manifest", position
    else:
        yield parent, str(document.content.config.digest), "config", 0
        for position, layer in enumerate(document.content.layers):
            yield parent, str(layer.digest), "layer", position
    if document.subject is not None:
        yield parent, str(document.subject.digest), "subject", 0


_BELOW = (
    "WITH RECURSIVE below(digest) AS (VALUES (?) UNION"
    " SELECT e.child FROM edge e JOIN below ON e.parent = below.digest WHERE e.kind != 'subject')"
)


def _link_blobs(db: sqlite3.Connection, repository_id: int, root: str) -> None:
    """Record that the repository has everything held below this document."""
    db.execute(
        f"{_BELOW} INSERT OR IGNORE INTO repository_blob SELECT ?, below.digest FROM below"  # noqa: S608
        " JOIN blob ON blob.digest = below.digest",
        (root, repository_id),
    )


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


def _point(
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
            f"{_BELOW} SELECT DISTINCT d.platform FROM below"  # noqa: S608
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
    move = TagMove(_reference_text(db, repository_id, tag), before, claim.digest)
    kind = "tag-moved" if before else "tag-added"
    _event(db, now, kind, path=path, reference=move.reference, digest=claim.digest, detail=before)
    return [move]


def _drop_tag(
    db: sqlite3.Connection, repository_id: int, tag: str, digest: str, now: float
) -> TagMove:
    """Remove a tag with its history and the claims of absent sources on it."""
    move = TagMove(_reference_text(db, repository_id, tag), digest, "")
    where = (repository_id, tag)
    db.execute("DELETE FROM tag WHERE repository_id = ? AND name = ?", where)
    db.execute("DELETE FROM tag_generation WHERE repository_id = ? AND tag = ?", where)
    db.execute(
        "DELETE FROM claim WHERE repository_id = ? AND tag = ? AND source_id IN"
        " (SELECT id FROM source WHERE state = 'removed')",
        where,
    )
    _event(db, now, "tag-removed", reference=move.reference, digest=digest)
    return move


def _reference_text(db: sqlite3.Connection, repository_id: int, tag: str) -> str:
    row = db.execute("SELECT host, path FROM repository WHERE id = ?", (repository_id,)).fetchone()
    return str(Reference(Repository(row["host"], row["path"]), tag))


def _event(
    db: sqlite3.Connection,
    now: float,
    kind: str,
    *,
    path: str = "",
    reference: str = "",
    digest: str = "",
    detail: str = "",
) -> None:
    number = db.execute(
        "INSERT INTO event (at, kind, path, reference, digest, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (now, kind, path, reference, digest, detail),
    ).lastrowid
    if number and number % 1000 == 0:
        db.execute("DELETE FROM event WHERE id <= ?", (number - _EVENTS_KEPT,))


def _trim_generations(db: sqlite3.Connection, retention: int) -> None:
    """Keep the current generation of each tag and `retention` different earlier ones."""
    db.execute(
        "DELETE FROM tag_generation WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER"
        " (PARTITION BY repository_id, tag ORDER BY id DESC) AS age FROM tag_generation)"
        " WHERE age > ?)",
        (retention + 1,),
    )


def _sweep(db: sqlite3.Connection) -> list[str]:
    """Delete documents and blobs that no root reaches; gives the blobs' digests."""
    db.execute("CREATE TEMP TABLE IF NOT EXISTS reached (digest TEXT PRIMARY KEY) WITHOUT ROWID")
    db.execute("DELETE FROM reached")
    db.execute(
        "WITH RECURSIVE live(digest) AS ("
        " SELECT digest FROM tag UNION SELECT digest FROM tag_generation"
        " UNION SELECT c.digest FROM claim c JOIN source s ON s.id = c.source_id"
        "   WHERE s.state != 'removed' OR c.tag = ''"
        " UNION SELECT e.child FROM edge e JOIN live ON e.parent = live.digest"
        "   WHERE e.kind != 'subject'"
        " UNION SELECT d.digest FROM document d JOIN live ON d.subject = live.digest)"
        " INSERT INTO reached SELECT digest FROM live"
    )
    freed = [
        row["digest"]
        for row in db.execute(
            "SELECT digest FROM blob WHERE digest NOT IN (SELECT digest FROM reached)"
        ).fetchall()
    ]
    unreached = "digest NOT IN (SELECT digest FROM reached)"
    for table in ("document", "repository_blob", "blob"):
        db.execute(f"DELETE FROM {table} WHERE {unreached}")  # noqa: S608
    db.execute(
        "DELETE FROM repository WHERE id NOT IN (SELECT repository_id FROM tag"
        " UNION SELECT repository_id FROM claim UNION SELECT repository_id FROM tag_generation"
        " UNION SELECT repository_id FROM repository_blob UNION SELECT repository_id FROM tombstone"
        " UNION SELECT repository_id FROM upload)"
    )
    db.execute("DELETE FROM reached")
    return freed
