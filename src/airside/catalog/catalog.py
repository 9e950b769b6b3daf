"""The catalog: what is in the store, which archive brought it, where each tag points.

Always true: what one method records becomes visible and durable at once, in one transaction, after
the blobs it speaks of are durable in the store. `generation` grows with each change.
Left to others: the blobs themselves, and the decision what a tag should be
(`airside.catalog.tag_policy`). All methods are safe to call from any thread; the time is given by
the caller, in seconds.
"""

import contextlib
import hashlib
import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from math import inf
from pathlib import Path

from airside.catalog.collection import Condemn, GarbageCollection, collect_copy
from airside.catalog.collection_report import CollectionReport
from airside.catalog.database import Readers, Writer
from airside.catalog.documents import (
    fill_parts,
    known_repository_id,
    link_referrers,
    record_claim,
    record_documents,
    repository_id_of,
)
from airside.catalog.events import record_event
from airside.catalog.model import (
    JUDGED,
    ClaimedName,
    Import,
    IndexChanges,
    RestoredTag,
    TagMove,
)
from airside.catalog.publications import Publications
from airside.catalog.pushes import Pushes
from airside.catalog.retention import Policy, Pressure, Rule
from airside.catalog.sequences import next_sequence, next_source_id, reserve_sequence
from airside.catalog.tags import Hold, TagName, Tags, claims_of, reference_text
from airside.catalog.tombstones import deleted_names, is_deleted
from airside.catalog.upstream_cache import UpstreamCache
from airside.catalog.verification import Verification, restore_document
from airside.catalog.view import CatalogView
from airside.core.errors import NotFoundError
from airside.core.failpoints import fault
from airside.core.listeners import Listeners
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.merge import parts_of
from airside.oci.model import Document
from airside.oci.platform import Platform
from airside.oci.reference import Repository


class Catalog(CatalogView):
    """The writing side; `CatalogView` reads.

    `hold` makes an index that was merged here durable in the store, before it is spoken of.
    """

    def __init__(self, path: Path, hold: Hold) -> None:
        self._hold = hold
        self.changes = Listeners()
        """Notified after each commit that changed the generation, in the thread that made it."""
        self._collecting = threading.Lock()
        self._writer = Writer(path)
        self.publications = Publications(self._writer)
        self.pushes = Pushes(self._transaction, self._changed, hold)
        self.verification = Verification(self._writer)
        self._fill_parts()
        self._keep_sequence()
        self._writer.watch_changes()
        super().__init__(Readers(path))
        self.upstream_cache = UpstreamCache(self._transaction, self._readers)
        self._generation = self._next_generation = super().generation

    @property
    def generation(self) -> int:
        return self._generation

    def close(self) -> None:
        super().close()
        self._writer.close()

    def _fill_parts(self) -> None:
        with self._writer.transaction("record parts") as db:
            if db.execute("SELECT 1 FROM meta WHERE key = 'parts'").fetchone() is None:
                fill_parts(db)
                db.execute("INSERT INTO meta VALUES ('parts', '1')")

    def _keep_sequence(self) -> None:
        """No number may be given twice: not that of a source restored by an earlier version."""
        with self._writer.transaction("look for the highest number") as db:
            highest = db.execute("SELECT max(sequence) FROM source").fetchone()[0] or 0
            reserve_sequence(db, highest)

    def index_changes(self, *, everything: bool) -> IndexChanges:
        """What `index.json` is to say anew since the last call, or all of it; nothing between."""
        with self._writer.lock:
            changed = self._writer.take_changes()
            return IndexChanges(
                self._generation,
                changed,
                self.index_entries(None if everything else changed),
                self.index_archives(),
                self.index_deleted(),
            )

    def settle_tags(self, now: float) -> None:
        """Decide every tag anew, once: a catalog of version 1 let the newest archive have it."""
        if self.meta("settled") is not None:
            return
        with self._transaction("decide all tags") as db:
            tags = Tags(db, now, self._hold)
            for row in db.execute("SELECT repository_id, name FROM tag").fetchall():
                tags.settle(TagName(row["repository_id"], row["name"]), "keep")
            db.execute("INSERT INTO meta VALUES ('settled', '1')")
            self._changed(db)

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
            "SELECT id, kind, sequence, stat_key, state FROM source"
            " WHERE kind IN (?, ?) AND path = ?",
            (kind, "list" if kind == "archive" else kind, path),
        ).fetchone()
        keeps = (
            kind == "archive"
            and found is not None
            and found["stat_key"] in {stat_key, "" if found["state"] == "imported" else stat_key}
        )
        sequence = found["sequence"] if keeps else next_sequence(db)
        source_id = found["id"] if found is not None else next_source_id(db)
        kind = found["kind"] if found is not None else kind
        if (
            not keeps
        ):  # another file: what was pulled of the list or deleted of the old one counts no more
            db.execute("DELETE FROM problem WHERE source_id = ? AND reason = ''", (source_id,))
            db.execute("DELETE FROM tombstone WHERE source_path = ?", (path,))
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

    def set_kind(self, source_id: int, kind: str) -> None:
        """Record what a watched file turned out to be: an `archive` or a `list`."""
        with self._transaction("record what a file is") as db:
            changed = db.execute(
                "UPDATE source SET kind = ? WHERE id = ? AND kind IN ('archive', 'list')"
                " AND kind != ?",
                (kind, source_id, kind),
            )
            if changed.rowcount:
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
            images = len(result.claims) or len({name for name, _ in result.pulled})
            detail = json.dumps({"images": images, "seconds": round(result.seconds, 3)})
            record_event(db, now, result.state, path=source["path"], detail=result.reason or detail)
            self._changed(db)
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
        claimed = _record_claims(db, result, ((position, sequence) for position in count(first)))
        link_referrers(db, (str(claim.digest) for claim in result.claims))
        return [
            move
            for name in sorted(before | claimed)
            if name.tag
            for move in tags.settle(name, result.on_removal)
        ]

    def remove_sources(self, removals: Mapping[str, str], now: float) -> list[TagMove]:
        """Record archives that are gone: path → policy (`unpin`, `delete`, `keep`)."""
        moves: list[TagMove] = []
        changed = False
        with self._transaction("record removed archives") as db:
            tags = Tags(db, now, self._hold)
            for path, policy in removals.items():
                row = db.execute(
                    "UPDATE source SET state = 'removed', stat_key = '', changed_at = ?,"
                    " reason = '', removed_at = ?, on_removal = ?"
                    " WHERE kind IN ('archive', 'list') AND path = ? AND state != 'removed'"
                    " RETURNING id",
                    (now, next_sequence(db), policy, path),
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
                        name = TagName(claim["repository_id"], claim["tag"])
                        moves += tags.settle(name, policy)
                        if policy == "delete":
                            tags.forget_generations(name, row["id"], path)
            if changed:
                self._changed(db)
        fault("catalog.after_remove")
        return moves

    def roll_back(
        self, repository: Repository, tag: str, now: float, *, digest: Digest | None = None
    ) -> TagMove:
        """Point a tag at a kept generation: the one before, or that of a digest.

        It stays there until an archive that is newer than this brings the tag. Raises
        NotFoundError where there is no such tag or generation.
        """
        with self._transaction("roll a tag back") as db:
            name = _tag_name(db, repository, tag)
            tags = Tags(db, now, self._hold)
            current = tags.current(name) if name is not None else None
            reference = f"{repository}:{tag}"
            if name is None or current is None:
                raise NotFoundError(f"{reference} is not here", reference=reference)
            target = _generation(db, name, current["digest"], digest)
            db.execute(
                "INSERT OR REPLACE INTO rollback VALUES (?, ?, ?, ?, ?)",
                (*name.key, target, next_sequence(db), now),
            )
            moves = tags.point_back(name, current, target)
            record_event(db, now, "tag-rolled-back", reference=reference, digest=target)
            self._changed(db)
        return moves[0]

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

    def blob_repaired(self, digest: Digest, now: float, origin: str, source: str) -> bool:
        """Record that a blob that was wrong or lost is held; False if nobody knows it any more."""
        with self._transaction("record a repair") as db:
            known = db.execute(
                "UPDATE blob SET state = 'held', verified_at = ? WHERE digest = ?",
                (now, str(digest)),
            ).rowcount
            if known:
                detail = json.dumps({"from": origin, "source": source})
                record_event(db, now, "repaired", digest=str(digest), detail=detail)
                self._changed(db)
        return bool(known)

    def restore_document(self, digest: Digest, raw: bytes, now: float) -> None:
        """Give a document of the catalog the bytes of its digest again."""
        with self._transaction("restore a document") as db:
            restore_document(db, digest, raw)
            detail = json.dumps({"from": "store", "source": ""})
            record_event(db, now, "repaired", digest=str(digest), detail=detail)
            self._changed(db)

    def collect(
        self,
        now: float,
        *,
        retention: int,
        unbacked_after_seconds: float,
        grace_seconds: float = 0.0,
        upstream_keep_seconds: float = inf,
        rules: Sequence[Rule] = (),
        pressure: Pressure = Pressure(),  # noqa: B008 - it is frozen
        recent: Collection[Digest] = (),
        condemn: Condemn = lambda _digests: (),
        dry_run: bool = False,
    ) -> CollectionReport:
        """Drop what nothing holds any more; tells why, and which blobs the store may delete.

        What is a root: `catalog.marking`. Tags, versions and parts that retention lets go lose
        their names first. `recent`: digests that a client asked about stay too. `dry_run`: only
        tell. One collection at a time.
        """
        policy = Policy(
            now,
            retention,
            unbacked_after_seconds,
            grace_seconds,
            tuple(rules),
            pressure,
            upstream_keep_seconds,
        )
        if dry_run:
            with self._readers.copy() as copy:
                return collect_copy(copy, policy, recent)
        with self._collecting:
            return GarbageCollection(
                policy,
                partial(self._transaction, "collect garbage"),
                self._readers.snapshot,
                self._changed,
                self._hold,
                recent,
                condemn,
            ).run()

    def restore(
        self,
        path: str,
        claims: Sequence[tuple[ClaimedName, int]],
        documents: Iterable[Document],
        platforms: Mapping[Digest, Platform],
        blobs: Mapping[Digest, int],
        *,
        sequence: int,
        present: bool,
        now: float,
        kind: str = "archive",
    ) -> None:
        """Record a source again from `index.json`, after the catalog was lost.

        One that is `present` is read again when the watch sees it and keeps its sequence. Where
        its tags point is restored by `restore_tags`, when all sources are.
        """
        state = "imported" if present else "removed"
        with self._transaction("restore") as db:
            removed_at = 0 if present else next_sequence(db)
            reserve_sequence(db, sequence)
            row = db.execute(
                "INSERT INTO source (kind, path, sequence, state, settled_at, changed_at,"
                " removed_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (kind, path, sequence, state, now, now, removed_at),
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
            _record_claims(db, result, enumerate(number for _, number in claims))
            link_referrers(db, (str(claim.digest) for claim, _ in claims))
            self._changed(db)

    def restore_deleted(self, deleted: Iterable[tuple[Repository, str, str]], now: float) -> None:
        """Remember again what was deleted of archives: repository, tag (or `@digest`), path."""
        with self._transaction("restore what was deleted") as db:
            for repository, tag, path in deleted:
                db.execute(
                    "INSERT OR IGNORE INTO tombstone VALUES (?, ?, ?, '', ?)",
                    (repository_id_of(db, repository), tag, path, now),
                )

    def restore_tags(self, found: Iterable[RestoredTag], now: float) -> None:
        """Let tags be what `index.json` said, then what their claims say now."""
        with self._transaction("restore tags") as db:
            tags = Tags(db, now, self._hold)
            for tag in found:
                name = TagName(repository_id_of(db, tag.name.repository), tag.name.tag)
                tags.restore(name, str(tag.name.digest), tag.kind, tag.path)
                if tag.rolled_back:
                    db.execute(
                        "INSERT OR REPLACE INTO rollback VALUES (?, ?, ?, ?, ?)",
                        (*name.key, str(tag.name.digest), next_sequence(db), now),
                    )
                tags.settle(name, "unpin")
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
            changed = self._generation != self._next_generation
            self._generation = self._next_generation
        if changed:
            self.changes.notify()

    def _changed(self, db: sqlite3.Connection) -> None:
        """Count a change; called once in a transaction."""
        number = self._next_generation = self._generation + 1
        db.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (str(number),))


def plan_digest(claims: Iterable[ClaimedName]) -> str:
    """The digest of what an archive says: sorted names and their root digests."""
    lines = sorted(f"{c.repository}:{c.tag} {c.digest}" for c in claims)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _record_claims(
    db: sqlite3.Connection, result: Import, numbers: Iterable[tuple[int, int]]
) -> set[TagName]:
    """Record the claims of an import, each at its (position, sequence number)."""
    roots = {claim.digest for claim in result.claims}
    deleted = deleted_names(db, result.source_id)
    documents = {
        document.digest: document
        for document in result.documents
        if document.digest in roots or document.digest not in result.not_brought
    }
    claimed: set[TagName] = set()
    for claim, (position, sequence) in zip(result.claims, numbers, strict=False):
        if deleted and is_deleted(db, claim, deleted):
            continue
        parts = parts_of(claim.digest, documents, result.platforms)
        repository_id = record_claim(db, result.source_id, position, claim, sequence, parts)
        claimed.add(TagName(repository_id, claim.tag))
    return claimed


def _tag_name(db: sqlite3.Connection, repository: Repository, tag: str) -> TagName | None:
    repository_id = known_repository_id(db, repository)
    return TagName(repository_id, tag) if repository_id is not None else None


def _generation(db: sqlite3.Connection, name: TagName, current: str, digest: Digest | None) -> str:
    """The kept generation to roll back to."""
    kept = [
        str(row["digest"])
        for row in db.execute(
            "SELECT digest FROM tag_generation WHERE repository_id = ? AND tag = ?"
            " AND digest != ? ORDER BY id DESC",
            (*name.key, current),
        )
    ]
    reference = reference_text(db, name)
    if digest is None and kept:
        return kept[0]
    if str(digest) in kept:
        return str(digest)
    if str(digest) == current:
        raise NotFoundError(f"{reference} is {digest} already", reference=reference)
    shown = ", ".join(dict.fromkeys(kept)) or "none: the setting `retention` says how many"
    wanted = f"no version {digest}" if digest is not None else "no earlier version"
    raise NotFoundError(f"{reference} has {wanted}; kept are: {shown}", reference=reference)


def _renumber(db: sqlite3.Connection, source_id: int) -> int:
    """Give a source the next sequence number."""
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
