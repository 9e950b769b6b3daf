"""Pushes: the blobs and manifests that clients push, with their names.

What is pulled through from an upstream registry is recorded in the same way (`kind`), but does not
affect a tag that an archive or a push claims, and expires (`catalog.upstream_cache`).

A push is a source of kind `push`, one for each name (`host/path:tag`, or `host/path@digest` for a
manifest without a tag): a later push of the name replaces it, with a new number. `origin` is the
client and its address. A push links to its repository only what was sent to it, or what the client
could read under the same name.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from airside.catalog.claims import insert_claim
from airside.catalog.documents import (
    hold_blob,
    known_repository_id,
    link_referrers,
    record_document,
    repository_id_of,
)
from airside.catalog.events import record_event
from airside.catalog.model import ClaimedName
from airside.catalog.repository_blobs import held_sizes, link_below, link_blob
from airside.catalog.sequences import next_sequence, next_source_id
from airside.catalog.short_names import check_short_name
from airside.catalog.source_paths import UPSTREAM
from airside.catalog.tag_names import TagName
from airside.catalog.tags import Hold, Tags
from airside.catalog.transactions import Transactions
from airside.core.errors import (
    DeniedError,
    InputError,
    MissingBlobError,
    SizeMismatchError,
)
from airside.core.failpoints import fault
from airside.oci.digest import Digest
from airside.oci.merge import Part, parts_of
from airside.oci.model import INDEX_TYPES, Descriptor, Document, Manifest, parse_document
from airside.oci.platform import Platform, parse_platform
from airside.oci.reference import Repository

Refusal: TypeAlias = InputError | DeniedError
"""Why a push is not recorded."""


@dataclass(frozen=True, slots=True)
class Push:
    """A manifest or index that is durable in the store, with the names it gets.

    No `tags`: it is named by its digest alone. `also`: repositories whose blobs the client can read
    under the name that it pushes to. All of `needed` must be held, or nothing is recorded.
    """

    repository: Repository
    document: Document
    platform: Platform | None
    tags: tuple[str, ...]
    needed: tuple[Descriptor, ...]
    also: tuple[Repository, ...] = ()
    origin: str = ""
    kind: Literal["push", "peer"] = "push"
    """`peer`: fetched from an upstream registry, whose URL is `origin`."""
    short_for: Repository | None = None
    """The repository of the path at the default registry; set if short names that archives serve
    must not be taken over."""


@dataclass(frozen=True, slots=True)
class PushedBlob:
    """A blob that is durable in the store and belongs to the repository."""

    repository: Repository
    digest: Digest
    size_bytes: int


class Pushes:
    """Records pushes. Thread-safe. All methods raise StoreError too."""

    def __init__(self, transactions: Transactions, hold: Hold) -> None:
        self._transactions, self._hold = transactions, hold

    def record(self, arrived: Sequence[Push | PushedBlob], now: float) -> list[Refusal | None]:
        """Records all in one transaction and in order.

        Returns for each None, or why it was refused.

        A blob is kept for the grace time, since no manifest needs it yet. A manifest is refused
        with MissingBlobError or SizeMismatchError if a blob that it needs is not in the repository,
        and with DeniedError if it would take over a short name (`catalog.short_names`).
        """
        with self._transactions.begin("record pushes") as db:
            found = [self._record_alone(db, each, now) for each in arrived]
            if any(isinstance(e, Push) and f is None for e, f in zip(arrived, found, strict=True)):
                fault("push.in_manifest")
                self._transactions.count_change(db)
        if any(isinstance(each, PushedBlob) for each in arrived):
            fault("push.after_blob")
        if any(isinstance(each, Push) for each in arrived):
            fault("push.after_manifest")
        return found

    def _record_alone(
        self, db: sqlite3.Connection, arrived: Push | PushedBlob, now: float
    ) -> Refusal | None:
        """Records one of several; if it is refused, nothing of it is recorded."""
        db.execute("SAVEPOINT push")
        refused: Refusal | None = None
        try:
            if isinstance(arrived, Push):
                self._record_push(db, arrived, now)
            else:
                self._record_blob(db, arrived, now)
        except (InputError, DeniedError) as exc:
            db.execute("ROLLBACK TO push")
            refused = exc
        db.execute("RELEASE push")
        return refused

    def _record_blob(self, db: sqlite3.Connection, blob: PushedBlob, now: float) -> None:
        hold_blob(db, blob.digest, blob.size_bytes, now)
        link_blob(db, repository_id_of(db, blob.repository), blob.digest, now)

    def mount(
        self, repository: Repository, digest: Digest, may: Callable[[Repository], bool], now: float
    ) -> bool:
        """Links a blob of another repository that the client may read.

        Returns False if there is none.
        """
        with self._transactions.begin("mount a blob") as db:
            rows = db.execute(
                "SELECT r.host, r.path FROM repository_blob l JOIN repository r"
                " ON r.id = l.repository_id JOIN blob b ON b.digest = l.digest"
                " WHERE l.digest = ? AND b.state = 'held'",
                (str(digest),),
            )
            if not any(may(Repository(row["host"], row["path"])) for row in rows.fetchall()):
                return False
            link_blob(db, repository_id_of(db, repository), digest, now)
        return True

    def check(self, pushes: Sequence[Push]) -> list[Refusal | None]:
        """Returns for each manifest None if it could be recorded, or else the error of `record`."""
        with self._transactions.begin("check pushes") as db:
            return [_refusal(db, push) for push in pushes]

    def _record_push(self, db: sqlite3.Connection, push: Push, now: float) -> None:
        digest = push.document.digest
        repository_id = repository_id_of(db, push.repository)
        readable = [*_readable(db, push), repository_id]
        _check_names(db, push)
        _check_needed(db, push, readable)
        hold_blob(db, digest, push.document.size_bytes, now)
        key = push.platform.key if push.platform is not None else ""
        record_document(db, push.document, key)
        link_below(db, repository_id, str(digest), readable)
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


def _readable(db: sqlite3.Connection, push: Push) -> list[int]:
    """Returns the repositories whose blobs the client may use."""
    named = dict.fromkeys((push.repository, *push.also))
    found = (known_repository_id(db, repository) for repository in named)
    return [i for i in found if i is not None]


def _refusal(db: sqlite3.Connection, push: Push) -> Refusal | None:
    try:
        _check_names(db, push)
        _check_needed(db, push, _readable(db, push))
    except (InputError, DeniedError) as exc:
        return exc
    return None


def _check_names(db: sqlite3.Connection, push: Push) -> None:
    if push.short_for is not None and not push.repository.host:
        for tag in push.tags:
            check_short_name(db, push.repository.path, tag, push.short_for)


def _check_needed(db: sqlite3.Connection, push: Push, readable: Sequence[int]) -> None:
    held = held_sizes(db, (need.digest for need in push.needed), readable)
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
    """Returns the document's manifests by platform, as far as they are in the repository."""
    below = _Below(db, push, repository_id)
    if push.platform is not None:
        below.platforms[push.document.digest] = push.platform
    return parts_of(push.document.digest, below, below.platforms)


@dataclass(frozen=True, slots=True)
class _Below:
    """The documents of a repository at and below a pushed one, read one at a time."""

    db: sqlite3.Connection
    push: Push
    repository_id: int
    platforms: dict[Digest, Platform] = field(default_factory=dict)

    def get(self, digest: Digest) -> Document | None:
        """Returns a document; of a manifest, whose bytes nobody needs, only its type."""
        if digest == self.push.document.digest:
            return self.push.document
        row = self.db.execute(
            "SELECT d.media_type, d.platform, d.raw FROM document d JOIN repository_blob r"
            " ON r.digest = d.digest WHERE d.digest = ? AND r.repository_id = ?",
            (str(digest), self.repository_id),
        ).fetchone()
        if row is None:
            return None
        if row["platform"]:
            self.platforms[digest] = parse_platform(row["platform"])
        if row["media_type"] in INDEX_TYPES:
            return parse_document(
                row["raw"], row["media_type"], str(digest), algorithm=digest.algorithm
            )
        about = Descriptor("", digest, 0)
        return Document(row["media_type"], b"", digest, Manifest(about, ()))


def _push_source(db: sqlite3.Connection, push: Push, reference: str, now: float) -> tuple[int, int]:
    """Returns (id, sequence) of the source of a name's pushes.

    The source is created if needed, gets a new number and loses its claims.
    """
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
