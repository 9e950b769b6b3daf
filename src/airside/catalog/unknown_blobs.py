"""Blobs without a record, found when records were lost: kept until somebody deletes them."""

import json
from collections.abc import Iterable, Mapping

from airside.catalog.database import Readers
from airside.catalog.transactions import Transactions
from airside.oci.digest import Digest, parse_digest

_EXPLAINED = (
    "SELECT w.value AS digest FROM json_each(?) w"
    " WHERE EXISTS (SELECT 1 FROM document d WHERE d.digest = w.value)"
    " OR EXISTS (SELECT 1 FROM edge e WHERE e.child = w.value)"
)
_NOT_RECORDED = "digest NOT IN (SELECT digest FROM blob)"


def list_unknown(readers: Readers) -> dict[Digest, int]:
    """Returns the unknown blobs with their bytes, without those recorded meanwhile."""
    rows = readers.rows(
        f"SELECT digest, size_bytes FROM unknown_blob WHERE {_NOT_RECORDED} ORDER BY digest"  # noqa: S608
    )
    return {parse_digest(row["digest"]): row["size_bytes"] for row in rows}


def list_explained(readers: Readers, digests: Iterable[str]) -> list[str]:
    """Returns those of the digests that a document is, or lists."""
    rows = readers.rows(_EXPLAINED, json.dumps(sorted(set(digests))))
    return [row["digest"] for row in rows]


class UnknownBlobs:
    """Records unknown blobs. Thread-safe; raises StoreError."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def record(self, blobs: Mapping[Digest, int], now: float) -> None:
        with self._transactions.begin("record unknown blobs") as db:
            db.executemany(
                "INSERT OR IGNORE INTO unknown_blob VALUES (?, ?, ?)",
                [(str(digest), size, now) for digest, size in blobs.items()],
            )

    def forget(self, digests: Iterable[Digest]) -> None:
        with self._transactions.begin("forget unknown blobs") as db:
            db.executemany(
                "DELETE FROM unknown_blob WHERE digest = ?", [(str(d),) for d in digests]
            )

    def hold(self, blobs: Mapping[Digest, int], now: float) -> None:
        """Records blobs that a document explains as held: collection decides about them later."""
        with self._transactions.begin("record blobs again") as db:
            db.executemany(
                "INSERT OR IGNORE INTO blob VALUES (?, ?, ?, 'held')",
                [(str(digest), size, now) for digest, size in blobs.items()],
            )
