"""The cache of upstream registries: the tags pulled through, and when they were last asked for.

A name that was pulled through is a source of kind `peer`, recorded as a push is (`catalog.pushes`).
Its `changed_at` is the time when a client last asked for it.
"""

import json
from collections.abc import Iterable

from airside.catalog.database import Readers
from airside.catalog.short_names import DROPPED
from airside.catalog.source_paths import UPSTREAM
from airside.catalog.transactions import Transactions
from airside.oci.digest import parse_digest
from airside.oci.reference import Repository
from airside.ports.content import KeptTag


class UpstreamCache:
    """Reads and records cached tags. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions, readers: Readers) -> None:
        self._transactions, self._readers = transactions, readers

    def tag(self, repository: Repository, tag: str) -> KeptTag | None:
        rows = self._readers.rows(
            "SELECT t.digest, s.kind FROM tag t JOIN repository r ON r.id = t.repository_id"
            " LEFT JOIN source s ON s.id = t.source_id"
            " WHERE r.host = ? AND r.path = ? AND t.name = ?",
            repository.host,
            repository.path,
            tag,
        )
        if not rows:
            return None
        return KeptTag(parse_digest(rows[0]["digest"]), rows[0]["kind"] != "peer")

    def is_dropped(self, repository: Repository, tag: str) -> bool:
        """Returns True if an archive has the tag at another host and the repository lacks it.

        Then the short name means what the archive has, and an upstream must not replace it.
        """
        key = (tag, repository.path, repository.path, repository.host)
        return self.tag(repository, tag) is None and bool(self._readers.rows(DROPPED, *key))

    def touch(self, references: Iterable[str], now: float) -> None:
        """Records that clients asked for these names."""
        with self._transactions.begin("record what is used") as db:
            db.execute(
                "UPDATE source SET changed_at = ? WHERE kind = 'peer'"
                " AND path IN (SELECT value FROM json_each(?))",
                (now, json.dumps([UPSTREAM + text for text in references])),
            )
