"""What clients push and delete, recorded: blobs, manifests with their names, and their going.

What is pulled through from an upstream registry is recorded in the same way (`kind`), but says
nothing of a tag that an archive or a push speaks of, and goes with time (`catalog.upstream_cache`).

A push is a source of kind `push`, one for each name (`host/path:tag`, or `host/path@digest` for a
manifest without a tag): a later push of the name takes its place with a new number. `origin` says
who sent it from where. What a repository gets by a push is only what it may have: what was sent to
it, or what the client could read under the same name.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from airside.catalog.documents import (
    BELOW,
    hold_blob,
    insert_claim,
    known_repository_id,
    link_referrers,
    record_document,
    repository_id_of,
)
from airside.catalog.events import record_event
from airside.catalog.model import ClaimedName
from airside.catalog.sequences import next_sequence, next_source_id
from airside.catalog.source_paths import UPSTREAM
from airside.catalog.tags import Hold, TagName, Tags
from airside.catalog.tombstones import bury
from airside.core.errors import (
    ConflictError,
    InputError,
    MissingBlobError,
    NotFoundError,
    SizeMismatchError,
)
from airside.core.failpoints import fault
from airside.oci.digest import Digest, parse_digest
from airside.oci.merge import Part, parts_of
from airside.oci.model import Descriptor, Document, parse_document
from airside.oci.platform import Platform, parse_platform
from airside.oci.reference import Repository

Transaction = Callable[[str], AbstractContextManager[sqlite3.Connection]]


@dataclass(frozen=True, slots=True)
class Push:
    """A manifest or index that is durable in the store, and what it is to be called.

    `tags`: none means by its digest alone. `also`: repositories whose blobs the client can read by
    the name that it pushes to. `needed` must be held, or nothing is recorded.
    """

    repository: Repository
    document: Document
    platform: Platform | None
    tags: tuple[str, ...]
    needed: tuple[Descriptor, ...]
    also: tuple[Repository, ...] = ()
    origin: str = ""
    kind: Literal["push", "peer"] = "push"
    """`peer`: it came from an upstream registry, whose URL is `origin`."""


@dataclass(frozen=True, slots=True)
class PushedBlob:
    """A blob that is durable in the store, and belongs to the repository."""

    repository: Repository
    digest: Digest
    size_bytes: int


class Pushes:
    """The writing side of pushes and deletions. Thread-safe; raises StoreError besides."""

    def __init__(
        self,
        transaction: Transaction,
        changed: Callable[[sqlite3.Connection], None],
        hold: Hold,
    ) -> None:
        self._transaction, self._changed, self._hold = transaction, changed, hold

    def record(self, arrived: Sequence[Push | PushedBlob], now: float) -> list[InputError | None]:
        """Record what is durable in the store, all in one transaction; says why one was refused.

        A blob is kept for the grace time: no manifest speaks of it yet. A manifest is refused by a
        MissingBlobError or SizeMismatchError if what it needs is not in the repository. What came
        first is recorded first.
        """
        with self._transaction("record pushes") as db:
            found = [self._record_alone(db, each, now) for each in arrived]
            if any(isinstance(e, Push) and f is None for e, f in zip(arrived, found, strict=True)):
                fault("push.in_manifest")
                self._changed(db)
        if any(isinstance(each, PushedBlob) for each in arrived):
            fault("push.after_blob")
        if any(isinstance(each, Push) for each in arrived):
            fault("push.after_manifest")
        return found

    def _record_alone(
        self, db: sqlite3.Connection, arrived: Push | PushedBlob, now: float
    ) -> InputError | None:
        """One of several: refused, it leaves nothing."""
        db.execute("SAVEPOINT push")
        refused: InputError | None = None
        try:
            if isinstance(arrived, Push):
                self._record_push(db, arrived, now)
            else:
                self._record_blob(db, arrived, now)
        except InputError as exc:
            db.execute("ROLLBACK TO push")
            refused = exc
        db.execute("RELEASE push")
        return refused

    def _record_blob(self, db: sqlite3.Connection, blob: PushedBlob, now: float) -> None:
        hold_blob(db, blob.digest, blob.size_bytes, now)
        _link(db, repository_id_of(db, blob.repository), blob.digest, now)

    def mount(
        self, repository: Repository, digest: Digest, may: Callable[[Repository], bool], now: float
    ) -> bool:
        """Give the repository a blob of one that the client may read; False if there is none."""
        with self._transaction("mount a blob") as db:
            rows = db.execute(
                "SELECT r.host, r.path FROM repository_blob l JOIN repository r"
                " ON r.id = l.repository_id JOIN blob b ON b.digest = l.digest"
                " WHERE l.digest = ? AND b.state = 'held'",
                (str(digest),),
            )
            if not any(may(Repository(row["host"], row["path"])) for row in rows.fetchall()):
                return False
            _link(db, repository_id_of(db, repository), digest, now)
        return True

    def check(self, pushes: Sequence[Push]) -> list[InputError | None]:
        """Whether manifests could be recorded: for each None, or why not, as `record` says."""
        with self._transaction("check pushes") as db:
            return [_refusal(db, push) for push in pushes]

    def _record_push(self, db: sqlite3.Connection, push: Push, now: float) -> None:
        digest = push.document.digest
        repository_id = repository_id_of(db, push.repository)
        readable = [*_readable(db, push), repository_id]
        _check_needed(db, push, readable)
        hold_blob(db, digest, push.document.size_bytes, now)
        key = push.platform.key if push.platform is not None else ""
        record_document(db, push.document, key)
        _link_below(db, repository_id, str(digest), readable)
        link_referrers(db, [str(digest)])
        for tag in push.tags or ("",):
            self._name(db, push, repository_id, tag, now)

    def _name(
        self, db: sqlite3.Connection, push: Push, repository_id: int, tag: str, now: float
    ) -> None:
        claim = ClaimedName(push.repository, tag, push.document.digest)
        source_id, sequence = _push_source(db, push, claim.reference, now)
        parts = _parts(db, push, repository_id) if push.kind == "push" else ()
        insert_claim(db, source_id, 0, claim, sequence, parts)
        record_event(
            db,
            now,
            "pushed" if push.kind == "push" else "pulled-through",
            reference=claim.reference,
            digest=str(claim.digest),
            detail=push.origin,
        )
        if tag:
            Tags(db, now, self._hold).settle(TagName(repository_id, tag), "unpin")

    def delete_tag(self, repository: Repository, tag: str, now: float, origin: str) -> str:
        """Delete a tag; gives the digest that it had. Raises NotFoundError.

        What archives say of it is forgotten until they are dropped anew.
        """
        with self._transaction("delete a tag") as db:
            repository_id = known_repository_id(db, repository)
            tags = Tags(db, now, self._hold)
            name = TagName(repository_id or 0, tag)
            current = tags.current(name)
            if current is None:
                raise NotFoundError(f"{repository} has no tag {tag}")
            self._take_off(tags, name, now)
            digest = str(current["digest"])
            _keep(db, name.repository_id, digest, now)  # by its digest, for the grace time
            _tell_deleted(db, now, f"{repository}:{tag}", digest, origin)
            self._changed(db)
        return digest

    def _take_off(self, tags: Tags, name: TagName, now: float) -> None:
        """Remove a tag that is there, with every word about it."""
        current = tags.current(name)
        for claim in _claims(tags.db, "c.repository_id = ? AND c.tag = ?", name.key):
            _forget_claim(tags.db, claim, now)
        if current is not None:
            tags.drop(name, current["digest"])

    def delete_manifest(
        self, repository: Repository, digest: Digest, now: float, origin: str
    ) -> list[str]:
        """Delete a manifest or index of a repository, and the tags on it; gives those.

        Raises NotFoundError. Its blobs stay until garbage collection finds them unneeded.
        """
        with self._transaction("delete a manifest") as db:
            repository_id = known_repository_id(db, repository) or 0
            text = str(digest)
            if not _has_document(db, repository_id, text):
                raise NotFoundError(f"{repository} has no manifest {digest}")
            tags = Tags(db, now, self._hold)
            gone = _tags_on(db, repository_id, text)
            for tag in gone:
                self._take_off(tags, TagName(repository_id, tag), now)
                _tell_deleted(db, now, f"{repository}:{tag}", text, origin)
            self._forget_versions(tags, repository_id, text, now)
            _unlink(db, repository_id, text)
            _release_children(db, repository_id, text, now)
            _tell_deleted(db, now, f"{repository}@{digest}", text, origin)
            self._changed(db)
        return gone

    def _forget_versions(self, tags: Tags, repository_id: int, digest: str, now: float) -> None:
        """Nothing brings the document into the repository any more; other tags decide anew."""
        db, key = tags.db, (repository_id, digest)
        db.execute("DELETE FROM tag_generation WHERE repository_id = ? AND digest = ?", key)
        db.execute("DELETE FROM rollback WHERE repository_id = ? AND digest = ?", key)
        claims = _claims(db, "c.repository_id = ? AND c.digest = ?", key)
        for claim in claims:
            _forget_claim(db, claim, now)
        for tag in sorted({claim["tag"] for claim in claims} - {""}):
            tags.settle(TagName(repository_id, tag), "unpin")

    def delete_blob(self, repository: Repository, digest: Digest, now: float, origin: str) -> None:
        """Take a blob from a repository. Raises NotFoundError, ConflictError if it is needed."""
        with self._transaction("delete a blob") as db:
            repository_id = known_repository_id(db, repository) or 0
            text = str(digest)
            if not _held(db, [digest], [repository_id]):
                raise NotFoundError(f"{repository} has no blob {digest}")
            user = "a manifest itself" if _has_document(db, repository_id, text) else ""
            user = user or _user(db, repository_id, text)
            if user:
                raise ConflictError(f"blob {digest} is in use by {user}: delete that first")
            _unlink(db, repository_id, text)
            _tell_deleted(db, now, f"{repository}@{digest}", text, origin)


def _link(db: sqlite3.Connection, repository_id: int, digest: Digest, now: float) -> None:
    key = (repository_id, str(digest))
    db.execute("INSERT OR IGNORE INTO repository_blob VALUES (?, ?)", key)
    _keep(db, *key, now)


def _keep(db: sqlite3.Connection, repository_id: int, digest: str, now: float) -> None:
    """From now on, garbage collection leaves it for the grace time."""
    db.execute("INSERT OR REPLACE INTO pushed VALUES (?, ?, ?)", (repository_id, digest, now))


def _unlink(db: sqlite3.Connection, repository_id: int, digest: str) -> None:
    for table in ("repository_blob", "pushed"):
        db.execute(
            f"DELETE FROM {table} WHERE repository_id = ? AND digest = ?",  # noqa: S608
            (repository_id, digest),
        )


def _link_below(
    db: sqlite3.Connection, repository_id: int, root: str, readable: Sequence[int]
) -> None:
    """The repository has the document, and of what is below it what the client could read."""
    db.execute(
        f"{BELOW} INSERT OR IGNORE INTO repository_blob SELECT ?, digest FROM below"  # noqa: S608
        " WHERE digest = ? OR EXISTS (SELECT 1 FROM repository_blob r WHERE"
        " r.digest = below.digest AND r.repository_id IN (SELECT value FROM json_each(?)))",
        (root, repository_id, root, json.dumps(readable)),
    )


def _held(
    db: sqlite3.Connection, digests: Iterable[Digest], repository_ids: Sequence[int]
) -> dict[str, int]:
    """Those of the digests that are held and belong to one of the repositories, with sizes."""
    rows = db.execute(
        "SELECT b.digest, b.size_bytes FROM blob b WHERE b.state = 'held'"
        " AND b.digest IN (SELECT value FROM json_each(?)) AND EXISTS (SELECT 1 FROM"
        " repository_blob r WHERE r.digest = b.digest AND r.repository_id IN"
        " (SELECT value FROM json_each(?)))",
        (json.dumps([str(d) for d in digests]), json.dumps(list(repository_ids))),
    )
    return {row["digest"]: row["size_bytes"] for row in rows}


def _readable(db: sqlite3.Connection, push: Push) -> list[int]:
    """The repositories whose blobs the client may use."""
    named = dict.fromkeys((push.repository, *push.also))
    found = (known_repository_id(db, repository) for repository in named)
    return [i for i in found if i is not None]


def _refusal(db: sqlite3.Connection, push: Push) -> InputError | None:
    try:
        _check_needed(db, push, _readable(db, push))
    except InputError as exc:
        return exc
    return None


def _check_needed(db: sqlite3.Connection, push: Push, readable: Sequence[int]) -> None:
    held = _held(db, (need.digest for need in push.needed), readable)
    for need in push.needed:
        size = held.get(str(need.digest))
        if size is None:
            raise MissingBlobError(
                f"{push.repository} has no {need.digest}, which the manifest "
                f"{push.document.digest} lists: push it first",
                blob=need.digest,
            )
        if size != need.size_bytes:
            raise SizeMismatchError(
                f"{need.digest} has {size} bytes, the manifest says {need.size_bytes}",
                blob=need.digest,
                expected=need.size_bytes,
                found=size,
            )


def _parts(db: sqlite3.Connection, push: Push, repository_id: int) -> tuple[Part, ...]:
    """What the document has for which platforms, as far as it is in the repository."""
    documents = {push.document.digest: push.document}
    platforms: dict[Digest, Platform] = {}
    if push.platform is not None:
        platforms[push.document.digest] = push.platform
    for row in db.execute(
        f"{BELOW} SELECT d.digest, d.media_type, d.raw, d.platform FROM below"  # noqa: S608
        " JOIN document d ON d.digest = below.digest JOIN repository_blob r"
        " ON r.digest = d.digest AND r.repository_id = ?",
        (str(push.document.digest), repository_id),
    ).fetchall():
        digest = parse_digest(row["digest"])
        if row["platform"]:
            platforms[digest] = parse_platform(row["platform"])
        if digest not in documents:
            documents[digest] = parse_document(
                row["raw"], row["media_type"], row["digest"], algorithm=digest.algorithm
            )
    return parts_of(push.document.digest, documents, platforms)


def _push_source(db: sqlite3.Connection, push: Push, reference: str, now: float) -> tuple[int, int]:
    """The source of a name's pushes, without claims, with a new number: (id, sequence)."""
    sequence = next_sequence(db)
    reference = reference if push.kind == "push" else UPSTREAM + reference
    found = db.execute(
        "SELECT id FROM source WHERE kind = ? AND path = ?", (push.kind, reference)
    ).fetchone()
    source_id = int(found["id"]) if found is not None else next_source_id(db)
    db.execute(
        "INSERT INTO source (id, kind, path, sequence, state, settled_at, changed_at, imported_at,"
        " origin) VALUES (?, ?, ?, ?, 'imported', ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " sequence = excluded.sequence, state = 'imported', settled_at = excluded.settled_at,"
        " changed_at = excluded.changed_at, imported_at = excluded.imported_at,"
        " origin = excluded.origin",
        (source_id, push.kind, reference, sequence, now, now, now, push.origin),
    )
    db.execute("DELETE FROM claim WHERE source_id = ?", (source_id,))
    return source_id, sequence


def _claims(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[sqlite3.Row]:
    sql = "SELECT c.*, s.kind, s.state, s.path FROM claim c JOIN source s ON s.id = c.source_id"
    return db.execute(f"{sql} WHERE {where}", values).fetchall()


def _forget_claim(db: sqlite3.Connection, claim: sqlite3.Row, now: float) -> None:
    if claim["kind"] in {"push", "peer"}:
        db.execute("DELETE FROM source WHERE id = ?", (claim["source_id"],))
    else:
        bury(db, claim, now)


def _release_children(db: sqlite3.Connection, repository_id: int, index: str, now: float) -> None:
    """What was pushed by digest for this index alone is kept for the grace time only."""
    children = db.execute(
        "SELECT e.child FROM edge e WHERE e.parent = ? AND e.kind = 'manifest'"
        " AND NOT EXISTS (SELECT 1 FROM edge o JOIN repository_blob r ON r.digest = o.parent"
        "  AND r.repository_id = ? WHERE o.child = e.child AND o.kind = 'manifest')",
        (index, repository_id),
    ).fetchall()
    for row in children:
        key = (repository_id, row["child"])
        where = "c.repository_id = ? AND c.digest = ? AND c.tag = '' AND s.kind = 'push'"
        for claim in _claims(db, where, key):
            _forget_claim(db, claim, now)
            _keep(db, *key, now)


def _tags_on(db: sqlite3.Connection, repository_id: int, digest: str) -> list[str]:
    rows = db.execute(
        "SELECT name FROM tag WHERE repository_id = ? AND digest = ? ORDER BY name",
        (repository_id, digest),
    )
    return [row["name"] for row in rows]


def _has_document(db: sqlite3.Connection, repository_id: int, digest: str) -> bool:
    row = db.execute(
        "SELECT 1 FROM document d JOIN repository_blob r ON r.digest = d.digest"
        " WHERE r.repository_id = ? AND d.digest = ?",
        (repository_id, digest),
    ).fetchone()
    return row is not None


def _user(db: sqlite3.Connection, repository_id: int, digest: str) -> str:
    """A document of the repository that lists the blob; empty if none does."""
    row = db.execute(
        "SELECT e.parent FROM edge e JOIN repository_blob r ON r.digest = e.parent"
        " WHERE e.child = ? AND e.kind != 'subject' AND r.repository_id = ? LIMIT 1",
        (digest, repository_id),
    ).fetchone()
    return f"the manifest {row['parent']}" if row is not None else ""


def _tell_deleted(
    db: sqlite3.Connection, now: float, reference: str, digest: str, origin: str
) -> None:
    record_event(db, now, "deleted", reference=reference, digest=digest, detail=origin)
