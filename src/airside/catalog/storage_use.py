"""What the repositories use of the store: blobs are shared, so their sums exceed the whole."""

from dataclasses import dataclass

from airside.catalog.database import Readers
from airside.oci.reference import Repository

_USE = (
    "WITH holders AS (SELECT digest, count(*) AS n FROM repository_blob GROUP BY digest)"
    " SELECT r.host, r.path, count(*) AS blobs, sum(b.size_bytes) AS size_bytes,"
    " sum(CASE WHEN h.n = 1 THEN b.size_bytes ELSE 0 END) AS own_bytes,"
    " count(*) OVER () AS repositories FROM repository_blob o"
    " JOIN blob b ON b.digest = o.digest JOIN holders h ON h.digest = o.digest"
    " JOIN repository r ON r.id = o.repository_id GROUP BY r.id"
    " ORDER BY own_bytes DESC, size_bytes DESC, r.host, r.path LIMIT ?"
)
_SHARED = (
    "SELECT coalesce(sum(b.size_bytes), 0) AS n FROM blob b WHERE (SELECT count(*) FROM"
    " repository_blob o WHERE o.digest = b.digest) > 1"
)


@dataclass(frozen=True, slots=True)
class RepositoryUse:
    """The blobs of one repository. `own_bytes`: of blobs that no other repository has."""

    repository: Repository
    blobs: int
    size_bytes: int
    own_bytes: int


@dataclass(frozen=True, slots=True)
class StorageUse:
    """`shared_bytes`: of blobs that several repositories have, each counted once."""

    repositories: int
    shared_bytes: int
    largest: tuple[RepositoryUse, ...]


def read_storage_use(readers: Readers, limit: int) -> StorageUse:
    """Returns what the repositories use, those with the most bytes of their own first."""
    rows = readers.rows(_USE, limit)
    shared = readers.rows(_SHARED)[0]["n"]
    return StorageUse(
        rows[0]["repositories"] if rows else 0,
        shared,
        tuple(
            RepositoryUse(
                Repository(r["host"], r["path"]), r["blobs"], r["size_bytes"], r["own_bytes"]
            )
            for r in rows
        ),
    )
