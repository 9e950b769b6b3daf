"""What nothing holds any more goes from the catalog, and why; the store follows."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airside.catalog.documents import BELOW
from airside.catalog.tags import TagName, Tags, reference_text
from airside.oci.digest import Digest, parse_digest
from airside.oci.reference import Reference, Repository

_UNBACKED = "unbacked for longer than unbacked_after_seconds: no archive brings it"
_NOT_NEEDED = "no image needs it: its archive was replaced or removed"


@dataclass(frozen=True, slots=True)
class Expired:
    """A document that lost a name, and why."""

    reference: str
    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What goes with one document: its blobs that nothing else holds."""

    reference: str
    digest: str
    reason: str
    blobs: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection took out of the catalog; `changed`: also names or links, without blobs."""

    items: tuple[Collected, ...]
    changed: bool

    @property
    def blobs(self) -> list[Digest]:
        return [blob for item in self.items for blob in item.blobs]


def expire_tags(tags: Tags, limit: float) -> list[Expired]:
    """Drop the tags that nothing backs since `limit`."""
    found: list[Expired] = []
    for row in tags.db.execute(
        "SELECT repository_id, name, digest FROM tag WHERE unbacked_since <= ?", (limit,)
    ).fetchall():
        name = TagName(row["repository_id"], row["name"])
        kept = tags.db.execute(
            "SELECT DISTINCT digest FROM tag_generation WHERE repository_id = ? AND tag = ?",
            name.key,
        ).fetchall()
        reference = tags.drop(name, row["digest"]).reference
        digests = dict.fromkeys([row["digest"], *(one["digest"] for one in kept)])
        found += [Expired(reference, digest, _UNBACKED) for digest in digests]
    return found


def forget_sources(tags: Tags, limit: float) -> list[Expired]:
    """Forget archives removed since `limit`, and what only they gave to tags or left unnamed."""
    gone = tags.db.execute(
        "SELECT c.repository_id, c.tag, c.digest, s.path FROM claim c"
        " JOIN source s ON s.id = c.source_id WHERE s.state = 'removed' AND s.changed_at <= ?"
        " AND s.on_removal != 'keep'",
        (limit,),
    ).fetchall()
    tags.db.execute(
        "DELETE FROM claim WHERE source_id IN (SELECT id FROM source WHERE state = 'removed'"
        " AND changed_at <= ? AND on_removal != 'keep')",
        (limit,),
    )
    for key in {(row["repository_id"], row["tag"]) for row in gone if row["tag"]}:
        tags.settle(TagName(*key), "keep")
    tags.db.execute(
        "DELETE FROM source WHERE state = 'removed' AND changed_at <= ?"
        " AND id NOT IN (SELECT source_id FROM claim)",
        (limit,),
    )
    return [
        Expired(
            reference_text(tags.db, TagName(row["repository_id"], row["tag"])),
            row["digest"],
            f"its archive {row['path']} was removed longer ago than unbacked_after_seconds",
        )
        for row in gone
    ]


def collect(db: sqlite3.Connection, expired: list[Expired], retention: int) -> Collection:
    """Delete what no root reaches: generations, documents, blobs, what repositories had."""
    expired = [*expired, *_trim_generations(db, retention)]
    _mark(db)
    freed = {
        str(row["digest"])
        for row in db.execute(
            "SELECT digest FROM blob WHERE digest NOT IN (SELECT digest FROM reached)"
        )
    }
    items = tuple(_explained(db, expired, freed))
    unlinked = db.execute(
        "DELETE FROM repository_blob AS b WHERE NOT EXISTS (SELECT 1 FROM reached r"
        " WHERE r.digest = b.digest AND r.repository_id = b.repository_id)"
    ).rowcount
    for table in ("document", "blob"):
        db.execute(f"DELETE FROM {table} WHERE digest NOT IN (SELECT digest FROM reached)")  # noqa: S608
    db.execute(
        "DELETE FROM repository WHERE id NOT IN (SELECT repository_id FROM tag"
        " UNION SELECT repository_id FROM claim UNION SELECT repository_id FROM tag_generation"
        " UNION SELECT repository_id FROM repository_blob UNION SELECT repository_id FROM tombstone"
        " UNION SELECT repository_id FROM pushed)"
    )
    db.execute("DELETE FROM reached")
    return Collection(items, bool(freed or unlinked))


def _trim_generations(db: sqlite3.Connection, retention: int) -> list[Expired]:
    """Keep the current generation of each tag and `retention` earlier ones."""
    rows = db.execute(
        "SELECT g.id, g.tag, g.digest, r.host, r.path FROM (SELECT *, row_number() OVER"
        " (PARTITION BY repository_id, tag ORDER BY id DESC) AS age FROM tag_generation) g"
        " JOIN repository r ON r.id = g.repository_id WHERE g.age > ? ORDER BY g.id",
        (retention + 1,),
    ).fetchall()
    db.executemany("DELETE FROM tag_generation WHERE id = ?", [(row["id"],) for row in rows])
    return [
        Expired(
            str(Reference(Repository(row["host"], row["path"]), row["tag"])),
            row["digest"],
            f"replaced: of earlier versions {retention} are kept (retention)",
        )
        for row in rows
    ]


def _explained(
    db: sqlite3.Connection, expired: Iterable[Expired], freed: set[str]
) -> Iterator[Collected]:
    """Each freed blob once, below the first document that it goes with."""
    left = set(freed)
    for one in (*expired, *_unnamed(db, freed)):
        below = db.execute(f"{BELOW} SELECT digest FROM below", (one.digest,)) if left else ()  # noqa: S608
        blobs = [row["digest"] for row in below if row["digest"] in left]
        left.difference_update(blobs)
        if blobs:
            yield Collected(one.reference, one.digest, one.reason, tuple(map(parse_digest, blobs)))
    for digest in sorted(left):
        yield Collected("", digest, _NOT_NEEDED, (parse_digest(digest),))


def _unnamed(db: sqlite3.Connection, freed: set[str]) -> Iterator[Expired]:
    """Freed documents that are below no other, with the name that they had last."""
    roots = db.execute(
        "SELECT d.digest FROM document d WHERE d.digest NOT IN (SELECT digest FROM reached)"
        " AND NOT EXISTS (SELECT 1 FROM edge e WHERE e.child = d.digest AND e.kind = 'manifest')"
        " ORDER BY d.digest"
    ).fetchall()
    if not roots:
        return
    names = {
        row["digest"]: row["reference"]
        for row in db.execute(
            "SELECT CASE kind WHEN 'tag-removed' THEN digest ELSE detail END AS digest, reference"
            " FROM event WHERE kind IN ('tag-removed', 'tag-moved') ORDER BY id"
        )
    }
    for row in roots:
        if row["digest"] in freed:
            yield Expired(names.get(row["digest"], ""), row["digest"], _NOT_NEEDED)


def _mark_left(db: sqlite3.Connection) -> None:
    """Find the parts of indexes that only archives had which are gone.

    A sparse index stays for what other archives bring of it, these parts go.
    """
    db.execute("CREATE TEMP TABLE IF NOT EXISTS part_left (digest TEXT PRIMARY KEY) WITHOUT ROWID")
    db.execute("DELETE FROM part_left")
    db.execute(
        "INSERT INTO part_left SELECT DISTINCT digest FROM claim_part WHERE attested = ''"
        " EXCEPT SELECT p.digest FROM claim_part p JOIN source s ON s.id = p.source_id"
        "   WHERE p.held AND s.state != 'removed'"
        " EXCEPT SELECT digest FROM tag_part"
        " EXCEPT SELECT p.value ->> 'digest' FROM tag_generation g, json_each(g.parts) p"
    )


def _mark(db: sqlite3.Connection) -> None:
    """Find what each repository reaches from its tags, generations and claims."""
    _mark_left(db)
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS reached (digest TEXT, repository_id INTEGER,"
        " PRIMARY KEY (digest, repository_id)) WITHOUT ROWID"
    )
    db.execute("DELETE FROM reached")
    db.execute(
        "WITH RECURSIVE live(repository_id, digest) AS ("
        " SELECT repository_id, digest FROM tag"
        " UNION SELECT repository_id, digest FROM pushed"
        " UNION SELECT repository_id, digest FROM tag_generation"
        " UNION SELECT c.repository_id, c.digest FROM claim c JOIN source s ON s.id = c.source_id"
        "   WHERE s.state != 'removed' OR c.tag = ''"
        " UNION SELECT c.repository_id, c.digest FROM claim c JOIN tag_part p"
        "   ON p.source_id = c.source_id AND p.repository_id = c.repository_id AND p.tag = c.tag"
        " UNION SELECT live.repository_id, e.child FROM edge e JOIN live ON e.parent = live.digest"
        "   WHERE e.kind != 'subject' AND e.child NOT IN (SELECT digest FROM part_left)"
        " UNION SELECT live.repository_id, d.digest FROM document d"
        "   JOIN live ON d.subject = live.digest)"
        " INSERT INTO reached SELECT digest, repository_id FROM live"
    )
