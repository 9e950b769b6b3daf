"""Deletions by clients: tags, manifests and blobs of a repository."""

import sqlite3
from collections.abc import Sequence

from airside.catalog.documents import known_repository_id
from airside.catalog.events import record_event
from airside.catalog.repository_blobs import (
    has_document,
    held_sizes,
    keep_for_grace,
    unlink_blob,
)
from airside.catalog.tag_names import TagName
from airside.catalog.tags import Hold, Tags
from airside.catalog.tombstones import delete_claim
from airside.catalog.transactions import Transactions
from airside.core.errors import ConflictError, NotFoundError
from airside.oci.digest import Digest
from airside.oci.reference import Repository


class Deletions:
    """Records deletions. Thread-safe. All methods raise StoreError too."""

    def __init__(self, transactions: Transactions, hold: Hold) -> None:
        self._transactions, self._hold = transactions, hold

    def delete_tag(self, repository: Repository, tag: str, now: float, origin: str) -> str:
        """Deletes a tag. Returns the digest that it had. Raises NotFoundError.

        Claims of archives on the tag are ignored until the archives are dropped again.
        """
        with self._transactions.begin("delete a tag") as db:
            repository_id = known_repository_id(db, repository)
            tags = Tags(db, now, self._hold)
            name = TagName(repository_id or 0, tag)
            current = tags.current(name)
            if current is None:
                raise NotFoundError(f"{repository} has no tag {tag}")
            self._take_off(tags, name, now)
            digest = str(current["digest"])
            keep_for_grace(
                db, name.repository_id, digest, now
            )  # it can be pulled by digest meanwhile
            _tell_deleted(db, now, f"{repository}:{tag}", digest, origin)
            self._transactions.count_change(db)
        return digest

    def _take_off(self, tags: Tags, name: TagName, now: float) -> None:
        """Deletes an existing tag with all claims on it."""
        current = tags.current(name)
        for claim in _claims(tags.db, "c.repository_id = ? AND c.tag = ?", name.key):
            _forget_claim(tags.db, claim, now)
        if current is not None:
            tags.drop(name, current["digest"])

    def delete_manifest(
        self, repository: Repository, digest: Digest, now: float, origin: str
    ) -> list[str]:
        """Deletes a manifest or index of a repository, and its tags. Returns those tags.

        Raises NotFoundError. The blobs stay until garbage collection finds that nothing needs them.
        """
        with self._transactions.begin("delete a manifest") as db:
            repository_id = known_repository_id(db, repository) or 0
            text = str(digest)
            if not has_document(db, repository_id, text):
                raise NotFoundError(f"{repository} has no manifest {digest}")
            tags = Tags(db, now, self._hold)
            gone = _tags_on(db, repository_id, text)
            for tag in gone:
                self._take_off(tags, TagName(repository_id, tag), now)
                _tell_deleted(db, now, f"{repository}:{tag}", text, origin)
            self._forget_versions(tags, repository_id, text, now)
            unlink_blob(db, repository_id, text)
            _release_children(db, repository_id, text, now)
            _tell_deleted(db, now, f"{repository}@{digest}", text, origin)
            self._transactions.count_change(db)
        return gone

    def _forget_versions(self, tags: Tags, repository_id: int, digest: str, now: float) -> None:
        """Deletes all versions and claims of the document in the repository.

        Decides the other tags of these claims again.
        """
        db, key = tags.db, (repository_id, digest)
        db.execute("DELETE FROM tag_generation WHERE repository_id = ? AND digest = ?", key)
        db.execute("DELETE FROM rollback WHERE repository_id = ? AND digest = ?", key)
        claims = _claims(db, "c.repository_id = ? AND c.digest = ?", key)
        for claim in claims:
            _forget_claim(db, claim, now)
        for tag in sorted({claim["tag"] for claim in claims} - {""}):
            tags.settle(TagName(repository_id, tag), "unpin")

    def delete_blob(self, repository: Repository, digest: Digest, now: float, origin: str) -> None:
        """Unlinks a blob from a repository.

        Raises NotFoundError, or ConflictError if it is in use.
        """
        with self._transactions.begin("delete a blob") as db:
            repository_id = known_repository_id(db, repository) or 0
            text = str(digest)
            if not held_sizes(db, [digest], [repository_id]):
                raise NotFoundError(f"{repository} has no blob {digest}")
            user = "a manifest itself" if has_document(db, repository_id, text) else ""
            user = user or _user(db, repository_id, text)
            if user:
                raise ConflictError(f"blob {digest} is in use by {user}: delete that first")
            unlink_blob(db, repository_id, text)
            _tell_deleted(db, now, f"{repository}@{digest}", text, origin)


def _claims(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[sqlite3.Row]:
    sql = "SELECT c.*, s.kind, s.state, s.path FROM claim c JOIN source s ON s.id = c.source_id"
    return db.execute(f"{sql} WHERE {where}", values).fetchall()


def _forget_claim(db: sqlite3.Connection, claim: sqlite3.Row, now: float) -> None:
    if claim["kind"] in {"push", "peer"}:
        db.execute("DELETE FROM source WHERE id = ?", (claim["source_id"],))
    else:
        delete_claim(db, claim, now)


def _release_children(db: sqlite3.Connection, repository_id: int, index: str, now: float) -> None:
    """Keeps manifests pushed by digest for this index alone, but for the grace time only."""
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
            keep_for_grace(db, *key, now)


def _tags_on(db: sqlite3.Connection, repository_id: int, digest: str) -> list[str]:
    rows = db.execute(
        "SELECT name FROM tag WHERE repository_id = ? AND digest = ? ORDER BY name",
        (repository_id, digest),
    )
    return [row["name"] for row in rows]


def _user(db: sqlite3.Connection, repository_id: int, digest: str) -> str:
    """Returns a document of the repository that lists the blob; empty if none does."""
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
