"""Lists the referrers of a document, by pages whose memory is bounded. Blocking; thread-safe."""

import json

from airside.catalog.database import Readers
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import Descriptor
from airside.oci.reference import Repository
from airside.ports.content import MOST_REFERRERS, ReferrersPage, fitting_referrers

_OF = (
    " FROM document d JOIN repository_blob b ON b.digest = d.digest"
    " JOIN repository r ON r.id = b.repository_id"
    " WHERE d.subject = ? AND r.host = ? AND r.path = ? AND d.digest > ?"
)


def list_referrers(
    readers: Readers, repository: Repository, subject: Digest, after: str
) -> ReferrersPage:
    """Returns the referrers after a digest, as `RegistryView.referrers` says."""
    key = (str(subject), repository.host, repository.path, after)
    sizes = readers.rows(  # the length of a BLOB is read without its bytes
        f"SELECT d.digest, length(d.raw) AS size {_OF} ORDER BY d.digest LIMIT ?",
        *key,
        MOST_REFERRERS + 1,
    )
    count = fitting_referrers([row["size"] for row in sizes])
    if not count:
        return ReferrersPage()
    rows = readers.rows(
        "SELECT d.digest, d.media_type, length(d.raw) AS size, d.artifact_type, d.annotations"
        f"{_OF} AND d.digest <= ? ORDER BY d.digest",
        *key,
        sizes[count - 1]["digest"],
    )
    found = (
        Descriptor(
            row["media_type"],
            parse_digest(row["digest"]),
            row["size"],
            annotations=json.loads(row["annotations"]),
            artifact_type=row["artifact_type"],
        )
        for row in rows
    )
    return ReferrersPage(tuple(found), more=count < len(sizes))
