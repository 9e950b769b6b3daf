"""Recovery: records sources and tags from `index.json` after the catalog was lost."""

import sqlite3
from collections.abc import Iterable

from airside.catalog.claims import record_claims
from airside.catalog.documents import link_referrers, record_documents, repository_id_of
from airside.catalog.model import Import, RestoredSource, RestoredTag
from airside.catalog.sequences import next_sequence, reserve_sequence
from airside.catalog.tag_names import TagName
from airside.catalog.tags import Hold, Tags
from airside.catalog.transactions import Transactions
from airside.oci.reference import Repository


class Recovery:
    """Fills an empty catalog. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions, hold: Hold) -> None:
        self._transactions, self._hold = transactions, hold

    def restore_sources(self, found: Iterable[RestoredSource], now: float) -> None:
        """Records sources from `index.json` in one transaction.

        Restore all sources before their tags: `restore_tags` decides by the claims.
        """
        with self._transactions.begin("restore") as db:
            for source in found:
                _restore_source(db, source, now)
            self._transactions.count_change(db)

    def restore_deleted(self, deleted: Iterable[tuple[Repository, str, str]], now: float) -> None:
        """Records the deleted names of archives: repository, tag (or `@digest`), path."""
        with self._transactions.begin("restore what was deleted") as db:
            for repository, tag, path in deleted:
                db.execute(
                    "INSERT OR IGNORE INTO tombstone VALUES (?, ?, ?, '', ?)",
                    (repository_id_of(db, repository), tag, path, now),
                )

    def restore_tags(self, found: Iterable[RestoredTag], now: float) -> None:
        """Points tags where `index.json` says, then decides each by its claims."""
        with self._transactions.begin("restore tags") as db:
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
            self._transactions.count_change(db)


def _restore_source(db: sqlite3.Connection, found: RestoredSource, now: float) -> None:
    state = "imported" if found.present else "removed"
    removed_at = 0 if found.present else next_sequence(db)
    reserve_sequence(db, found.sequence)
    row = db.execute(
        "INSERT INTO source (kind, path, sequence, state, settled_at, changed_at,"
        " removed_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (found.kind, found.path, found.sequence, state, now, now, removed_at),
    ).fetchone()
    result = Import(
        source_id=row["id"],
        state=state,
        stat_key="",
        plan_digest="",
        format="",
        compression="",
        seconds=0.0,
        claims=tuple(claim for claim, _ in found.claims),
        documents=found.documents,
        platforms=found.platforms,
        blobs=found.blobs,
    )
    record_documents(db, result, now)
    record_claims(db, result, enumerate(number for _, number in found.claims))
    link_referrers(db, (str(claim.digest) for claim, _ in found.claims))
