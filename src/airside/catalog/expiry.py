"""Expiry: tags, versions and claims of absent archives that lose their names in a collection.

The first phase of `catalog.collection`: each function changes rows within one transaction.
`airside.catalog.retention` decides what expires; the rows are read here.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from airside.catalog.claims import claims_of
from airside.catalog.retention import (
    Policy,
    TagAge,
    VersionAge,
    expired_tags,
    why_untagged_goes,
    why_version_goes,
)
from airside.catalog.source_paths import UPSTREAM
from airside.catalog.tag_names import TagName, reference_text
from airside.catalog.tags import Tags
from airside.oci.reference import Reference, Repository

_NAMED = "SELECT id, host, path FROM repository"
_OF_THESE = "SELECT value FROM json_each(?)"
_REMOVED = (
    "SELECT id, path, changed_at FROM source s WHERE state = 'removed' AND changed_at <= ?"
    " AND (on_removal != 'keep' OR NOT EXISTS (SELECT 1 FROM claim c WHERE c.source_id = s.id))"
)


@dataclass(frozen=True, slots=True)
class Expired:
    """A document that lost a name, and why."""

    reference: str
    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class Untagged:
    """A push by digest that retention no longer holds by itself."""

    source_id: int
    changed_at: float
    repository_id: int
    expired: Expired


def unbacked_tags(db: sqlite3.Connection, policy: Policy) -> list[TagName]:
    """Returns the tags that have been unbacked for too long."""
    rows = db.execute(
        "SELECT repository_id, name FROM tag WHERE unbacked_since <= ?", (policy.unbacked_before,)
    )
    return [TagName(row["repository_id"], row["name"]) for row in rows]


def expire_unbacked(tags: Tags, policy: Policy, names: Iterable[TagName]) -> list[Expired]:
    """Deletes those of these tags that are still unbacked."""
    expired = []
    for name in names:
        row = tags.current(name)
        since = row["unbacked_since"] if row is not None else None
        if since is not None and since <= policy.unbacked_before:
            expired += _drop(tags, name, policy.why_unbacked(since))
    return expired


def _drop(tags: Tags, name: TagName, reason: str) -> list[Expired]:
    """Deletes a tag with all its versions."""
    current = tags.current(name)
    assert current is not None
    kept = tags.db.execute(
        "SELECT DISTINCT digest FROM tag_generation WHERE repository_id = ? AND tag = ?", name.key
    ).fetchall()
    reference = tags.drop(name, current["digest"], reason=reason).reference
    digests = dict.fromkeys([current["digest"], *(one["digest"] for one in kept)])
    return [Expired(reference, digest, reason) for digest in digests]


def removed_sources(db: sqlite3.Connection, policy: Policy) -> list[int]:
    """Returns the archives removed too long ago, except those whose images are to be kept."""
    return [row["id"] for row in db.execute(_REMOVED, (policy.unbacked_before,))]


def forget_sources(tags: Tags, policy: Policy, ids: Iterable[int]) -> list[Expired]:
    """Deletes those of these archives that are still absent, and decides their tags again."""
    sources = tags.db.execute(
        f"{_REMOVED} AND s.id IN ({_OF_THESE})", (policy.unbacked_before, json.dumps(list(ids)))
    ).fetchall()
    expired, names = [], set()
    for source in sources:
        claims = claims_of(tags.db, source["id"])
        tags.db.execute("DELETE FROM source WHERE id = ?", (source["id"],))
        why = policy.why_unbacked(source["changed_at"])
        reason = f"its archive {source['path']} was removed: {why}"
        for claim in claims:
            name = TagName(claim["repository_id"], claim["tag"])
            names.add(name)
            expired.append(Expired(reference_text(tags.db, name), claim["digest"], reason))
    for name in sorted(names):
        if name.tag:
            tags.settle(name, "keep")
    return expired


def unused_peers(db: sqlite3.Connection, policy: Policy) -> list[int]:
    """Returns the sources from upstream registries that no client asked for lately."""
    rows = db.execute(
        "SELECT id FROM source WHERE kind = 'peer' AND changed_at <= ?", (policy.unused_before,)
    )
    return [row["id"] for row in rows]


def expire_peers(tags: Tags, policy: Policy, ids: Iterable[int]) -> list[Expired]:
    """Deletes those of these sources that are still unused, with the tags that follow them."""
    expired: list[Expired] = []
    for row in tags.db.execute(
        "SELECT s.id, s.path, s.changed_at, c.repository_id, c.tag, c.digest FROM source s"  # noqa: S608
        f" JOIN claim c ON c.source_id = s.id WHERE s.id IN ({_OF_THESE}) AND s.changed_at <= ?",
        (json.dumps(list(ids)), policy.unused_before),
    ).fetchall():
        name, why = TagName(row["repository_id"], row["tag"]), policy.why_unused(row["changed_at"])
        current = tags.current(name)
        follows = current is not None and current["source_id"] == row["id"]
        tags.db.execute("DELETE FROM source WHERE id = ?", (row["id"],))
        if follows:
            expired += _drop(tags, name, why)
        else:
            reference = row["path"].removeprefix(UPSTREAM)
            expired.append(Expired(reference, row["digest"], why))
    return expired


def repositories_with_rules(db: sqlite3.Connection, policy: Policy) -> list[int]:
    """Returns the repositories whose rule may expire tags."""
    found = []
    for row in db.execute(_NAMED) if policy.rules else ():
        rule = policy.rule_of(str(Repository(row["host"], row["path"])))
        if rule is not None and rule.takes_tags:
            found.append(int(row["id"]))
    return found


def expire_by_rules(tags: Tags, policy: Policy, repositories: Collection[int]) -> list[Expired]:
    """Deletes the tags of these repositories that their rules expire."""
    ids = json.dumps(list(repositories))
    ages: dict[int, list[TagAge]] = defaultdict(list)
    for row in tags.db.execute(
        "SELECT t.repository_id, t.name, t.moved_at, t.unbacked_since,"  # noqa: S608
        " (SELECT json_group_array(DISTINCT s.kind) FROM claim c JOIN source s"
        "  ON s.id = c.source_id WHERE c.repository_id = t.repository_id AND c.tag = t.name"
        f"  AND s.state != 'removed') AS kinds FROM tag t WHERE t.repository_id IN ({_OF_THESE})",
        (ids,),
    ):
        kinds = frozenset(json.loads(row["kinds"]))
        unbacked = row["unbacked_since"] is not None
        ages[row["repository_id"]].append(TagAge(row["name"], row["moved_at"], kinds, unbacked))
    expired = []
    for row in tags.db.execute(f"{_NAMED} WHERE id IN ({_OF_THESE})", (ids,)).fetchall():
        rule = policy.rule_of(str(Repository(row["host"], row["path"])))
        if rule is None:
            continue
        for age, reason in expired_tags(rule, ages[row["id"]], policy.now):
            name = TagName(row["id"], age.tag)
            _release(tags.db, name)
            gone = _drop(tags, name, reason)
            if "push" in age.backed_by and age.moved_at > policy.pushed_since:
                _keep_pushed(tags.db, name, gone, age.moved_at)
            expired += gone
    return expired


def _keep_pushed(db: sqlite3.Connection, name: TagName, gone: Iterable[Expired], at: float) -> None:
    """Keeps the tag's documents for the grace time, with what was pushed by digest for them."""
    db.executemany(
        "INSERT INTO pushed VALUES (?, ?, ?) ON CONFLICT (repository_id, digest)"
        " DO UPDATE SET at = max(at, excluded.at)",
        [(name.repository_id, one.digest, at) for one in gone],
    )


def _release(db: sqlite3.Connection, name: TagName) -> None:
    """Deletes the claims of present sources on the tag, and sources left without any claim.

    Archives stay: only pushes and imports by hand are deleted.
    """
    sources = db.execute(
        "DELETE FROM claim WHERE repository_id = ? AND tag = ? AND source_id IN"
        " (SELECT id FROM source WHERE state != 'removed') RETURNING source_id",
        name.key,
    ).fetchall()
    db.executemany(
        "DELETE FROM source WHERE id = ? AND kind IN ('push', 'import')"
        " AND NOT EXISTS (SELECT 1 FROM claim WHERE source_id = source.id)",
        [(row["source_id"],) for row in sources],
    )


def expired_versions(db: sqlite3.Connection, policy: Policy) -> Iterator[tuple[int, Expired]]:
    """Yields the earlier versions of tags that are not kept, with the ids of their rows."""
    rows = db.execute(
        "SELECT g.id, g.tag, g.digest, g.source_path, g.age, g.replaced_at, r.host, r.path FROM"
        " (SELECT *, row_number() OVER w - 1 AS age, lag(at) OVER w AS replaced_at"
        "  FROM tag_generation WINDOW w AS (PARTITION BY repository_id, tag ORDER BY id DESC)) g"
        " JOIN repository r ON r.id = g.repository_id WHERE g.age > 0 ORDER BY g.id"
    ).fetchall()
    for row in rows:
        repository = Repository(row["host"], row["path"])
        reference = str(Reference(repository, row["tag"]))
        version = VersionAge(row["age"], row["replaced_at"], row["source_path"] == reference)
        reason = why_version_goes(policy, policy.rule_of(str(repository)), version)
        if reason:
            yield row["id"], Expired(reference, row["digest"], reason)


def untagged_pushes(db: sqlite3.Connection, policy: Policy) -> list[Untagged]:
    """Returns the pushes by digest that are old enough to need a tag or an index to hold them."""
    if not any(rule.said.untagged_seconds is not None for rule in policy.rules):
        return []
    found = []
    for row in db.execute(
        "SELECT s.id, s.changed_at, c.repository_id, c.digest, r.host, r.path FROM source s"
        " JOIN claim c ON c.source_id = s.id JOIN repository r ON r.id = c.repository_id"
        " WHERE s.kind = 'push' AND c.tag = ''"
    ):
        repository = Repository(row["host"], row["path"])
        rule = policy.rule_of(str(repository))
        reason = why_untagged_goes(policy, rule, row["changed_at"])
        if reason:
            expired = Expired(f"{repository}@{row['digest']}", row["digest"], reason)
            found.append(Untagged(row["id"], row["changed_at"], row["repository_id"], expired))
    return found


def ages(db: sqlite3.Connection) -> tuple[list[float], list[float]]:
    """Returns when versions were replaced, and since when images are unbacked.

    For `retention.next_pressure`: what may expire before its time.
    """
    versions = db.execute(
        "SELECT replaced_at AS at FROM (SELECT row_number() OVER w AS age, lag(at) OVER w AS"
        " replaced_at FROM tag_generation WINDOW w AS (PARTITION BY repository_id, tag"
        " ORDER BY id DESC)) WHERE age > 1"
    )
    unbacked = db.execute(
        "SELECT unbacked_since AS at FROM tag WHERE unbacked_since IS NOT NULL"  # noqa: S608
        f" UNION ALL SELECT changed_at FROM ({_REMOVED})"
        " UNION ALL SELECT changed_at FROM source WHERE kind = 'peer'",
        (float("inf"),),
    )
    return [row["at"] for row in versions], [row["at"] for row in unbacked]
