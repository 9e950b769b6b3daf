"""Held digests: the documents that a runtime shall have under `name@digest` beside the tags.

A pod that is pinned to a digest restarts for as long as something here holds that digest
(ADR 0033): a present archive or a push that names the document, or a kept version of a tag.
"""

from dataclasses import dataclass, replace

from airside.catalog.database import Readers
from airside.catalog.tag_states import BACKED, TagState
from airside.oci.digest import Digest
from airside.oci.reference import Repository

_LISTED = "EXISTS (SELECT 1 FROM edge e WHERE e.child = {}.digest AND e.kind = 'manifest')"
_CLAIMED = (
    "SELECT r.host, r.path, c.digest, c.sequence, d.media_type, d.kind AS artifact_type,"  # noqa: S608
    " 1 AS backed, s.kind = 'push' AS pushed, s.path AS source,"
    f" {_LISTED.format('c')} AS is_listed FROM claim c"
    " JOIN repository r ON r.id = c.repository_id JOIN source s ON s.id = c.source_id"
    " JOIN document d ON d.digest = c.digest"
    " WHERE s.state != 'removed' AND s.kind != 'peer' AND (r.host != '' OR s.kind = 'push')"
    " AND d.kind = '' AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.digest = c.digest"
    "  AND t.repository_id = c.repository_id AND t.unbacked_since IS NULL)"
)
"""What a present archive or a push names; an archive's image without a name has no host."""
_KEPT = (
    "SELECT r.host, r.path, g.digest, g.sequence, d.media_type, d.kind AS artifact_type,"  # noqa: S608
    f" {BACKED} AS backed, s.kind IS 'push' AS pushed, g.source_path AS source,"
    f" {_LISTED.format('g')} AS is_listed"
    " FROM tag_generation g"
    " JOIN tag t ON t.repository_id = g.repository_id AND t.name = g.tag"
    " JOIN repository r ON r.id = g.repository_id JOIN document d ON d.digest = g.digest"
    " LEFT JOIN source s ON s.id = t.source_id"
    " WHERE g.digest != t.digest AND s.kind IS NOT 'peer' AND d.kind = ''"
)
"""The versions before the current one; they are held as their tag is."""
_HOLDERS = (
    "WITH above(digest) AS (VALUES (?1) UNION SELECT parent FROM edge"
    "  WHERE child = ?1 AND kind = 'manifest'), here(id) AS"
    " (SELECT id FROM repository WHERE host = ?2 AND path = ?3)"
    " SELECT 'tag' AS kind, t.name FROM tag t, above, here"
    "  WHERE t.digest = above.digest AND t.repository_id = here.id"
    " UNION SELECT s.kind, s.path FROM claim c JOIN source s ON s.id = c.source_id, above, here"
    "  WHERE c.digest = above.digest AND c.repository_id = here.id"
    "  AND s.state != 'removed' AND s.kind != 'peer'"
    " UNION SELECT 'version', g.tag FROM tag_generation g JOIN tag t"
    "  ON t.repository_id = g.repository_id AND t.name = g.tag AND t.digest != g.digest,"
    "  above, here WHERE g.digest = above.digest AND g.repository_id = here.id ORDER BY 1, 2"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """What holds a digest: a `tag` or an earlier `version` of one, or a source of a `kind`."""

    kind: str
    name: str
    """The tag, or the source's path."""


def list_holders(readers: Readers, repository: Repository, digest: Digest) -> list[Holder]:
    """Returns what holds a document, or an index that lists it, in its repository."""
    rows = readers.rows(_HOLDERS, str(digest), repository.host, repository.path)
    return [Holder(r["kind"], r["name"]) for r in rows]


def list_held_digests(readers: Readers) -> list[TagState]:
    """Returns each held document once by repository, without a tag; not what backed tags are."""
    found: dict[tuple[str, str, str], TagState] = {}
    for r in readers.rows(f"{_CLAIMED} UNION ALL {_KEPT} ORDER BY 1, 2, 3"):
        key = (r["host"], r["path"], r["digest"])
        made = TagState(
            r["host"],
            r["path"],
            "",
            r["digest"],
            r["media_type"],
            r["artifact_type"],
            r["sequence"],
            bool(r["backed"]),
            (r["source"],) if r["source"] else (),
            bool(r["pushed"]),
            bool(r["is_listed"]),
        )
        before = found.get(key)
        found[key] = made if before is None else _joined(before, made)
    return list(found.values())


def _joined(one: TagState, other: TagState) -> TagState:
    return replace(
        one,
        sequence=max(one.sequence, other.sequence),
        backed=one.backed or other.backed,
        archives=tuple(sorted({*one.archives, *other.archives})),
        pushed=one.pushed and other.pushed,
    )
