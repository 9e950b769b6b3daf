"""The report of a collection, for people: each deleted blob once, and why."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airside.catalog.documents import BELOW
from airside.catalog.expiry import Expired
from airside.oci.digest import Digest, parse_digest

_NOT_NEEDED = "no image needs it: what held it was replaced or removed"


@dataclass(frozen=True, slots=True)
class Collected:
    """One deleted document, with the blobs that nothing else held."""

    reference: str
    digest: str
    reason: str
    blobs: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """All that a collection deleted from the catalog."""

    items: tuple[Collected, ...]

    @property
    def blobs(self) -> list[Digest]:
        return [blob for item in self.items for blob in item.blobs]


def explained(
    db: sqlite3.Connection, expired: Iterable[Expired], freed: Iterable[str]
) -> Iterator[Collected]:
    """Yields each freed blob once, with the first deleted document that needed it."""
    left = set(freed)
    for one in (*expired, *_unnamed(db, frozenset(left))):
        below = db.execute(f"{BELOW} SELECT digest FROM below", (one.digest,)) if left else ()  # noqa: S608
        blobs = [row["digest"] for row in below if row["digest"] in left]
        left.difference_update(blobs)
        if blobs:
            yield Collected(one.reference, one.digest, one.reason, tuple(map(parse_digest, blobs)))
    for digest in sorted(left):
        yield Collected("", digest, _NOT_NEEDED, (parse_digest(digest),))


def _unnamed(db: sqlite3.Connection, freed: frozenset[str]) -> Iterator[Expired]:
    """Yields the freed documents that no index lists, with the last name of each."""
    roots = db.execute(
        "SELECT d.digest FROM document d WHERE d.digest NOT IN (SELECT digest FROM reached)"
        " AND NOT EXISTS (SELECT 1 FROM edge e WHERE e.child = d.digest AND e.kind = 'manifest')"
        " ORDER BY d.digest"
    ).fetchall()
    if not roots:
        return
    names = {
        row["digest"]: (row["reference"], row["reason"] or _NOT_NEEDED)
        for row in db.execute(
            "SELECT CASE kind WHEN 'tag-removed' THEN digest ELSE detail END AS digest, reference,"
            " CASE kind WHEN 'tag-removed' THEN detail ELSE '' END AS reason"
            " FROM event WHERE kind IN ('tag-removed', 'tag-moved') ORDER BY id"
        )
    }
    for row in roots:
        if row["digest"] in freed:
            reference, reason = names.get(row["digest"], ("", _NOT_NEEDED))
            yield Expired(reference, row["digest"], reason)
