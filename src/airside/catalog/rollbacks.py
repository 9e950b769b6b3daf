"""Rollbacks: tags that an operator points at an earlier generation."""

import sqlite3

from airside.catalog.documents import known_repository_id
from airside.catalog.events import record_event
from airside.catalog.model import TagMove
from airside.catalog.sequences import next_sequence
from airside.catalog.tag_generations import earlier_digests
from airside.catalog.tag_names import TagName, reference_text
from airside.catalog.tags import Hold, Tags
from airside.catalog.transactions import Transactions
from airside.core.errors import NotFoundError
from airside.oci.digest import Digest
from airside.oci.reference import Repository


class Rollbacks:
    """Rolls tags back. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions, hold: Hold) -> None:
        self._transactions, self._hold = transactions, hold

    def roll_back(
        self, repository: Repository, tag: str, now: float, *, digest: Digest | None = None
    ) -> TagMove:
        """Points a tag at a kept generation: the one before, or that of a digest.

        The rollback lasts until a newer archive claims the tag. Raises NotFoundError if there is no
        such tag or generation.
        """
        with self._transactions.begin("roll a tag back") as db:
            name = _tag_name(db, repository, tag)
            tags = Tags(db, now, self._hold)
            current = tags.current(name) if name is not None else None
            reference = f"{repository}:{tag}"
            if name is None or current is None:
                raise NotFoundError(f"there is no tag {reference}", reference=reference)
            target = _generation(db, name, current["digest"], digest)
            db.execute(
                "INSERT OR REPLACE INTO rollback VALUES (?, ?, ?, ?, ?)",
                (*name.key, target, next_sequence(db), now),
            )
            moves = tags.point_back(name, current, target)
            record_event(db, now, "tag-rolled-back", reference=reference, digest=target)
            self._transactions.count_change(db)
        return moves[0]


def _tag_name(db: sqlite3.Connection, repository: Repository, tag: str) -> TagName | None:
    repository_id = known_repository_id(db, repository)
    return TagName(repository_id, tag) if repository_id is not None else None


def _generation(db: sqlite3.Connection, name: TagName, current: str, digest: Digest | None) -> str:
    """Returns the digest of the kept generation to roll back to. Raises NotFoundError."""
    kept = earlier_digests(db, name, current)
    reference = reference_text(db, name)
    if digest is None and kept:
        return kept[0]
    if str(digest) in kept:
        return str(digest)
    if str(digest) == current:
        raise NotFoundError(f"{reference} already points at {digest}", reference=reference)
    shown = ", ".join(dict.fromkeys(kept)) or "none (the setting `retention` limits their number)"
    wanted = f"no version {digest}" if digest is not None else "no earlier version"
    raise NotFoundError(f"{reference} has {wanted}; kept versions: {shown}", reference=reference)
