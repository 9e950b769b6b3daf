"""Documents, blobs and repositories in the catalog: their rows, and the edges between them."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable

from airside.catalog.model import Import
from airside.oci.digest import Digest
from airside.oci.model import Document, Index
from airside.oci.reference import Repository

BELOW = (
    "WITH RECURSIVE below(digest) AS (VALUES (?) UNION"
    " SELECT e.child FROM edge e JOIN below ON e.parent = below.digest WHERE e.kind != 'subject')"
)
"""A `WITH` clause with one parameter: a document and everything below it."""

_REFERRERS = (
    f"{BELOW}, referrer(digest, subject) AS ("  # noqa: S608
    " SELECT d.digest, d.subject FROM below CROSS JOIN document d ON d.subject = below.digest"
    "  WHERE d.subject != ''"
    " UNION SELECT digest, subject FROM document WHERE digest = ? AND subject != '')"
    " SELECT r.repository_id, d.digest FROM referrer d CROSS JOIN repository_blob r"
    " ON r.digest = d.subject WHERE NOT EXISTS (SELECT 1 FROM"
    " repository_blob o WHERE o.repository_id = r.repository_id AND o.digest = d.digest)"
    " AND EXISTS (SELECT 1 FROM blob b WHERE b.digest = d.digest)"
    " AND EXISTS (SELECT 1 FROM claim c JOIN source s ON s.id = c.source_id"
    "  WHERE c.digest = d.digest AND c.tag = '' AND s.kind NOT IN ('push', 'peer'))"
)
"""The missing links to the referrers of a document, of those below it, or to the document itself.

A pushed referrer belongs only to the repository that it was pushed to.
"""

MOST_REFERRER_LINKS = 100_000
"""The referrers, each times its repositories, that one import or push links."""

_KNOWN_DOCUMENT = (
    "ON CONFLICT (digest) DO UPDATE SET raw = excluded.raw,"
    " platform = CASE platform WHEN '' THEN excluded.platform ELSE platform END,"
    " media_type = CASE WHEN excluded.media_type LIKE 'application/vnd.oci.%'"
    " THEN excluded.media_type ELSE media_type END"
)


def record_documents(db: sqlite3.Connection, result: Import, now: float) -> None:
    for digest, size in result.blobs.items():
        hold_blob(db, digest, size, now)
    for document in result.documents:
        platform = result.platforms.get(document.digest)
        record_document(db, document, platform.key if platform is not None else "")


def hold_blob(db: sqlite3.Connection, digest: Digest, size_bytes: int, now: float) -> None:
    """Records that the store has a blob. The time of verification of a held blob stays."""
    db.execute(
        "INSERT INTO blob VALUES (?, ?, ?, 'held') ON CONFLICT (digest) DO UPDATE"
        " SET state = 'held', verified_at ="
        " CASE state WHEN 'held' THEN verified_at ELSE excluded.verified_at END",
        (str(digest), size_bytes, now),
    )
    db.execute("DELETE FROM unknown_blob WHERE digest = ?", (str(digest),))


def record_document(db: sqlite3.Connection, document: Document, platform: str) -> None:
    digest = str(document.digest)
    known = db.execute("SELECT 1 FROM document WHERE digest = ?", (digest,)).fetchone()
    db.execute(
        f"INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?) {_KNOWN_DOCUMENT}",  # noqa: S608
        (
            digest,
            document.media_type,
            document.raw,
            _artifact_type(document),
            str(document.subject.digest) if document.subject else "",
            platform,
            json.dumps(dict(document.annotations)),
            document.kind_of_artifact,
        ),
    )
    if known is None:
        db.executemany(
            "INSERT OR IGNORE INTO edge (parent, child, kind, position) VALUES (?, ?, ?, ?)",
            list(_edges(document)),
        )


def _artifact_type(document: Document) -> str:
    """Returns what referrers are filtered by: artifactType, else the config's media type."""
    if document.artifact_type or isinstance(document.content, Index):
        return document.artifact_type
    return document.content.config.media_type


def _edges(document: Document) -> Iterable[tuple[str, str, str, int]]:
    parent = str(document.digest)
    if isinstance(document.content, Index):
        for position, child in enumerate(document.content.manifests):
            yield parent, str(child.digest), "manifest", position
    else:
        yield parent, str(document.content.config.digest), "config", 0
        for position, layer in enumerate(document.content.layers):
            yield parent, str(layer.digest), "layer", position
    if document.subject is not None:
        yield parent, str(document.subject.digest), "subject", 0


def known_repository_id(db: sqlite3.Connection, repository: Repository) -> int | None:
    key = (repository.host, repository.path)
    row = db.execute("SELECT id FROM repository WHERE host = ? AND path = ?", key).fetchone()
    return int(row["id"]) if row is not None else None


def repository_id_of(db: sqlite3.Connection, repository: Repository) -> int:
    """Returns the id of a repository, which is inserted if it is absent."""
    key = (repository.host, repository.path)
    db.execute("INSERT OR IGNORE INTO repository (host, path) VALUES (?, ?)", key)
    found = known_repository_id(db, repository)
    assert found is not None
    return found


# A later import may change two columns of a document: the platform, if an earlier archive lacked
# the config, and the media type, if the bytes do not state it, which only OCI allows
# (manifest.md, mediaType).


def link_blobs(db: sqlite3.Connection, repository_ids: Iterable[int], root: str) -> None:
    """Links every held blob at or below this document to these repositories."""
    db.execute(
        f"{BELOW} INSERT OR IGNORE INTO repository_blob SELECT r.value, below.digest FROM below"  # noqa: S608
        " JOIN blob ON blob.digest = below.digest CROSS JOIN json_each(?) r",
        (root, json.dumps(list(repository_ids))),
    )


def link_referrers(db: sqlite3.Connection, roots: Iterable[str]) -> None:
    """Links unnamed documents to each repository that has their subject, in any order of arrival.

    `roots` are the new documents: they may be the subject, have it below them, or refer to one.

    Layouts list signatures and SBOMs beside their image without a name (distribution-spec, "Listing
    Referrers": clients look for them in the subject's repository). A referrer that has a name of
    its own belongs to that repository alone. At most `MOST_REFERRER_LINKS` at once: each referrer
    of an image could belong to each of thousands of repositories.
    """
    waiting = list(dict.fromkeys(roots))
    room = MOST_REFERRER_LINKS
    while waiting and room > 0:
        root = waiting.pop()
        found: dict[str, list[int]] = defaultdict(list)
        for row in db.execute(f"{_REFERRERS} LIMIT ?", (root, root, room)).fetchall():
            found[row["digest"]].append(row["repository_id"])
        for digest, repository_ids in found.items():
            link_blobs(db, repository_ids, digest)
            room -= len(repository_ids)
        waiting += found
