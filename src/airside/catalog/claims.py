"""Claims: the names that sources give documents, with the parts of each document."""

import sqlite3
from collections.abc import Iterable

from airside.catalog.documents import link_blobs, repository_id_of
from airside.catalog.model import ClaimedName, Import
from airside.catalog.tag_names import TagName
from airside.catalog.tombstones import deleted_names, is_deleted
from airside.oci.digest import Digest, parse_digest
from airside.oci.merge import Part, parts_of
from airside.oci.model import Document, parse_document
from airside.oci.platform import Platform, parse_platform


def claims_of(db: sqlite3.Connection, source_id: int) -> list[sqlite3.Row]:
    return db.execute("SELECT * FROM claim WHERE source_id = ?", (source_id,)).fetchall()


def record_claims(
    db: sqlite3.Connection, result: Import, numbers: Iterable[tuple[int, int]]
) -> set[TagName]:
    """Records the claims of an import, each at its (position, sequence number).

    Skips the names that a client deleted. Returns the names claimed.
    """
    roots = {claim.digest for claim in result.claims}
    deleted = deleted_names(db, result.source_id)
    documents = {
        document.digest: document
        for document in result.documents
        if document.digest in roots or document.digest not in result.already_held
    }
    claimed: set[TagName] = set()
    parts: dict[Digest, tuple[Part, ...]] = {}
    linked: set[tuple[int, Digest]] = set()
    for claim, (position, sequence) in zip(result.claims, numbers, strict=False):
        if deleted and is_deleted(db, claim, deleted):
            continue
        if claim.digest not in parts:
            parts[claim.digest] = parts_of(claim.digest, documents, result.platforms)
        repository_id = insert_claim(
            db, result.source_id, position, claim, sequence, parts[claim.digest]
        )
        if (repository_id, claim.digest) not in linked:  # many names of an image share both
            linked.add((repository_id, claim.digest))
            link_blobs(db, [repository_id], str(claim.digest))
        claimed.add(TagName(repository_id, claim.tag))
    return claimed


def insert_claim(
    db: sqlite3.Connection,
    source_id: int,
    position: int,
    claim: ClaimedName,
    sequence: int,
    parts: Iterable[Part],
) -> int:
    """Records a claim and its parts alone. Returns the repository's id."""
    repository_id = repository_id_of(db, claim.repository)
    digest = str(claim.digest)
    db.execute(
        "INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?, ?)",
        (source_id, position, repository_id, claim.tag, digest, sequence, claim.alias),
    )
    record_parts(db, source_id, position, parts)
    return repository_id


def record_parts(
    db: sqlite3.Connection, source_id: int, position: int, parts: Iterable[Part]
) -> None:
    """Records which manifest the claimed document has for which platform."""
    db.executemany(
        "INSERT INTO claim_part VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                source_id,
                position,
                number,
                part.platform.key if part.platform is not None else "",
                str(part.digest),
                int(part.held),
                str(part.attested) if part.attested is not None else "",
            )
            for number, part in enumerate(parts)
        ],
    )


def fill_parts(db: sqlite3.Connection) -> None:
    """Records the parts of claims from a catalog of version 1, which had none."""
    documents: dict[Digest, Document] = {}
    platforms: dict[Digest, Platform] = {}
    for row in db.execute("SELECT digest, media_type, raw, platform FROM document").fetchall():
        digest = parse_digest(row["digest"])
        document = parse_document(
            row["raw"], row["media_type"], row["digest"], algorithm=digest.algorithm
        )
        documents[digest] = document
        db.execute(
            "UPDATE document SET kind = ? WHERE digest = ?",
            (document.kind_of_artifact, row["digest"]),
        )
        if row["platform"]:
            platforms[digest] = parse_platform(row["platform"])
    for row in db.execute("SELECT source_id, position, digest FROM claim").fetchall():
        parts = parts_of(parse_digest(row["digest"]), documents, platforms)
        record_parts(db, row["source_id"], row["position"], parts)
