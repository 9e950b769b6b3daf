"""The names in the catalog with all that is below them: queries over many rows at once."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from airside.catalog.database import Readers
from airside.catalog.model import (
    Generation,
    ImageRow,
    IndexClaim,
    IndexEntry,
    TagPart,
)
from airside.catalog.source_paths import is_archive_path
from airside.oci.reference import Repository

Name = tuple[str, str, str]
"""Host, path and tag; the tag is empty for an unnamed document."""

_NAMED_ROWS = (
    "SELECT r.host, r.path, t.name, t.digest, t.unbacked_since, t.moved_at, d.media_type,"
    " d.kind AS artifact_type, coalesce(s.kind, '') AS kind,"
    " coalesce(s.origin, '') AS origin, b.sequence IS NOT NULL AS rolled_back,"
    " NOT EXISTS (SELECT 1 FROM claim c WHERE c.repository_id = t.repository_id"
    " AND c.tag = t.name AND c.digest = t.digest) AS ours FROM tag t"
    " JOIN repository r ON r.id = t.repository_id"
    " JOIN document d ON d.digest = t.digest LEFT JOIN source s ON s.id = t.source_id"
    " LEFT JOIN rollback b ON b.repository_id = t.repository_id AND b.tag = t.name"
)
_NAMED = f"{_NAMED_ROWS} ORDER BY r.host, r.path, t.name"
_UNNAMED = (
    "SELECT DISTINCT r.host, r.path, '' AS name, c.digest, NULL AS unbacked_since,"
    " NULL AS moved_at, d.media_type, d.kind AS artifact_type, s.kind, s.origin,"
    " 0 AS rolled_back, 0 AS ours"
    " FROM claim c"
    " JOIN repository r ON r.id = c.repository_id JOIN document d ON d.digest = c.digest"
    " JOIN source s ON s.id = c.source_id"
    " WHERE c.tag = '' AND s.state != 'removed'"
    " AND (s.kind NOT IN ('push', 'peer') OR d.subject = '' AND NOT EXISTS (SELECT 1 FROM edge e"
    "  JOIN repository_blob b ON b.digest = e.parent AND b.repository_id = r.id"
    "  WHERE e.child = c.digest))"
    " ORDER BY r.host, r.path"
)
"""Documents without a tag; pushed or fetched ones only if no index of the repository lists them."""
_FITS = (
    "(?1 = '' OR instr(lower(host || '/' || path || ':' || name || '@' || digest), ?1))"
    " AND (?2 = '' OR ?2 = 'images' AND artifact_type = ''"
    "  OR ?2 = 'artifacts' AND artifact_type != ''"
    "  OR ?2 = 'unbacked' AND unbacked_since IS NOT NULL)"
)
_KEYS = (
    "SELECT *, count(*) OVER () AS total FROM ("  # noqa: S608
    "SELECT 0 AS last, r.host, r.path, t.name, t.digest, t.unbacked_since,"
    " (SELECT kind FROM document d WHERE d.digest = t.digest) AS artifact_type"
    " FROM tag t JOIN repository r ON r.id = t.repository_id UNION ALL"
    " SELECT 1, host, path, name, digest, unbacked_since, artifact_type"
    f" FROM ({_UNNAMED})) WHERE {_FITS}"
    " ORDER BY last, host, path, name, digest LIMIT ?3 OFFSET ?4"
)
"""What finds and sorts, for all names; the other columns are read for those of a page."""
_BELOW_ALL = (
    "WITH RECURSIVE below(digest) AS (SELECT value FROM json_each(?) UNION"
    " SELECT e.child FROM edge e JOIN below ON e.parent = below.digest WHERE e.kind != 'subject')"
)


class ImagePage(NamedTuple):
    """At most `limit` names from `offset` on that hold the text and are of this kind.

    `only`: empty for all, `images`, `artifacts`, or `unbacked`: without a present archive.
    """

    text: str = ""
    only: str = ""
    limit: int = 100
    offset: int = 0


def list_images(readers: Readers) -> list[ImageRow]:
    """Returns all names that can be pulled, sorted; unnamed documents at the end."""
    rows = [*readers.rows(_NAMED), *readers.rows(_UNNAMED)]
    below = _Below.load(readers)
    archives, parts = _archives(readers), _parts(readers)
    return [_image(row, below, archives, parts) for row in rows]


def list_image_page(readers: Readers, page: ImagePage) -> tuple[int, list[ImageRow]]:
    """Returns how many names fit, and those of the page, in the order of `list_images`."""
    keys = readers.rows(_KEYS, page.text.lower(), page.only, page.limit, page.offset)
    if not keys and page.offset:
        first = readers.rows(_KEYS, page.text.lower(), page.only, 1, 0)
        return (int(first[0]["total"]) if first else 0), []
    digests, paths = {row["digest"] for row in keys}, {row["path"] for row in keys}
    found = _rows_at(readers, paths, digests)
    below = _Below.load(readers, digests)
    archives, parts = _archives(readers, digests), _parts(readers, paths)
    rows = [found[_key(key)] for key in keys if _key(key) in found]  # one may go meanwhile
    total = int(keys[0]["total"]) if keys else 0
    return total, [_image(row, below, archives, parts) for row in rows]


def _rows_at(
    readers: Readers, paths: Collection[str], digests: Collection[str]
) -> dict[tuple[str, ...], sqlite3.Row]:
    """Returns the names of these documents in repositories of these paths, by key."""
    values = json.dumps(sorted(paths)), json.dumps(sorted(digests))
    named = f"{_NAMED_ROWS} WHERE r.path IN (SELECT value FROM json_each(?1))"  # noqa: S608
    named += " AND t.digest IN (SELECT value FROM json_each(?2))"
    unnamed = f"SELECT * FROM ({_UNNAMED}) WHERE path IN (SELECT value FROM json_each(?1))"  # noqa: S608
    unnamed += " AND digest IN (SELECT value FROM json_each(?2))"
    rows = [*readers.rows(named, *values), *readers.rows(unnamed, *values)]
    return {_key(row): row for row in rows}


def _key(row: sqlite3.Row) -> tuple[str, ...]:
    return row["host"], row["path"], row["name"], row["digest"]


def _image(
    row: sqlite3.Row,
    below: "_Below",
    archives: dict[tuple[Name, str], list[str]],
    parts: dict[Name, list[TagPart]],
) -> ImageRow:
    name = (row["host"], row["path"], row["name"])
    found = below.of(row["digest"])
    own = tuple(parts.get(name, ()))
    behind = [*archives.get((name, row["digest"]), ()), *(p.archive for p in own if p.backed)]
    return ImageRow(
        repository=Repository(row["host"], row["path"]),
        tag=row["name"],
        digest=row["digest"],
        media_type=row["media_type"],
        platforms=tuple(sorted({below.platform[d] for d in found if d in below.platform})),
        size_bytes=sum(below.size[d] for d in found if d in below.size),
        archives=tuple(sorted({path for path in behind if is_archive_path(path)})),
        source=row["kind"],
        origin=row["origin"],
        unbacked_since=row["unbacked_since"],
        moved_at=row["moved_at"],
        artifact_type=row["artifact_type"],
        parts=own,
        merged=bool(row["ours"]) and len(own) > 1 and not row["rolled_back"],
        rolled_back=bool(row["rolled_back"]),
    )


@dataclass(slots=True)
class _Below:
    """The edges, sizes and platforms of the whole catalog, or of a part of it, in memory."""

    children: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    size: dict[str, int] = field(default_factory=dict)
    platform: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, readers: Readers, roots: Collection[str] | None = None) -> "_Below":
        """Loads what is below all documents, or below these."""
        below, only = cls(), "{} IN (SELECT digest FROM below)" if roots is not None else "1"
        first = _BELOW_ALL if roots is not None else ""
        values = [json.dumps(sorted(roots))] if roots is not None else []
        for row in readers.rows(
            f"{first} SELECT parent, child FROM edge"  # noqa: S608
            f" WHERE kind != 'subject' AND {only.format('parent')}",
            *values,
        ):
            below.children[row["parent"]].append(row["child"])
        of_these = only.format("digest")
        below.size = {
            r["digest"]: r["size_bytes"]
            for r in readers.rows(
                f"{first} SELECT digest, size_bytes FROM blob WHERE {of_these}",  # noqa: S608
                *values,
            )
        }
        below.platform = {
            r["digest"]: r["platform"]
            for r in readers.rows(
                f"{first} SELECT digest, platform FROM document"  # noqa: S608
                f" WHERE platform != '' AND {of_these}",
                *values,
            )
        }
        return below

    def of(self, root: str) -> set[str]:
        """Returns the document and everything below it."""
        found: set[str] = set()
        waiting = [root]
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self.children.get(digest, ())
        return found


def _archives(
    readers: Readers, digests: Collection[str] | None = None
) -> dict[tuple[Name, str], list[str]]:
    """Returns the present archives that give a name to a digest, or to one of these."""
    only = "" if digests is None else " AND c.digest IN (SELECT value FROM json_each(?))"
    values = [] if digests is None else [json.dumps(sorted(digests))]
    found: dict[tuple[Name, str], list[str]] = defaultdict(list)
    for r in readers.rows(
        "SELECT r.host, r.path AS repository, c.tag, c.digest, s.path FROM claim c"  # noqa: S608
        " JOIN repository r ON r.id = c.repository_id JOIN source s ON s.id = c.source_id"
        f" WHERE s.state != 'removed'{only} ORDER BY s.path",
        *values,
    ):
        found[(r["host"], r["repository"], r["tag"]), r["digest"]].append(r["path"])
    return found


def _parts(readers: Readers, paths: Collection[str] | None = None) -> dict[Name, list[TagPart]]:
    """Returns the parts of each tag, or of those in repositories of these paths."""
    only = "" if paths is None else " WHERE r.path IN (SELECT value FROM json_each(?))"
    values = [] if paths is None else [json.dumps(sorted(paths))]
    rows: dict[Name, list[sqlite3.Row]] = defaultdict(list)
    for r in readers.rows(
        "SELECT r.host, r.path AS repository, p.tag, p.platform, p.digest, p.version,"  # noqa: S608
        " coalesce(s.path, '') AS archive, s.state != 'removed' AND EXISTS (SELECT 1 FROM claim c"
        " WHERE c.repository_id = p.repository_id AND c.tag = p.tag"
        " AND c.source_id = p.source_id) AS backed FROM tag_part p"
        " JOIN repository r ON r.id = p.repository_id LEFT JOIN source s ON s.id = p.source_id"
        f"{only} ORDER BY p.platform",
        *values,
    ):
        rows[r["host"], r["repository"], r["tag"]].append(r)
    found: dict[Name, list[TagPart]] = {}
    for name, own in rows.items():
        top = max(r["version"] for r in own)
        found[name] = [
            TagPart(
                r["platform"],
                r["digest"],
                r["archive"],
                backed=bool(r["backed"]),
                behind=r["version"] < top,
            )
            for r in own
        ]
    return found


def list_generations(readers: Readers) -> dict[tuple[Repository, str], list[Generation]]:
    """Returns the kept versions of each tag, the current one first."""
    found: dict[tuple[Repository, str], list[Generation]] = defaultdict(list)
    for r in readers.rows(
        "SELECT r.host, r.path, g.tag, g.digest, g.source_path, g.platforms, g.at"
        " FROM tag_generation g JOIN repository r ON r.id = g.repository_id ORDER BY g.id DESC"
    ):
        versions = found[Repository(r["host"], r["path"]), r["tag"]]
        platforms = tuple(json.loads(r["platforms"]))
        versions.append(
            Generation(r["digest"], r["source_path"], platforms, r["at"], current=not versions)
        )
    return found


def list_index_entries(
    readers: Readers, repository_ids: Collection[int] | None = None
) -> dict[int, tuple[Repository, list[IndexEntry]]]:
    """Returns current names and unnamed documents, with the claims that a rebuild needs.

    Grouped by repository (of these ids, or of all that have any), sorted.
    """
    ids = () if repository_ids is None else (json.dumps(list(repository_ids)),)
    rows = _rows_of(readers, _INDEX_TAGS, "t", ids, " ORDER BY t.repository_id, t.name")
    rows += _rows_of(readers, _INDEX_UNNAMED, "c", ids)
    contested = {r["id"] for r in rows if r["contested"]}
    claims = _index_claims(readers, (json.dumps(list(contested)),)) if contested else {}
    found: dict[int, tuple[Repository, list[IndexEntry]]] = {}
    for r in rows:
        of_tag = claims.get((r["id"], r["name"]), []) if r["contested"] else []
        repository = Repository(r["host"], r["path"])
        entry = IndexEntry(
            f"{repository}:{r['name']}" if r["name"] else str(repository),
            r["sequence"],
            r["digest"],
            r["media_type"],
            r["size"],
            r["kind"],
            r["source"],
            bool(r["rolled_back"]),
            _claims_to_write(r, of_tag),
        )
        found.setdefault(r["id"], (repository, []))[1].append(entry)
    for _, entries in found.values():
        entries.sort(key=lambda entry: (entry.reference, entry.sequence, entry.digest))
    return found


_INDEX_TAGS = (
    "SELECT r.id, r.host, r.path, t.name, t.sequence, t.digest, d.media_type,"
    " length(d.raw) AS size, coalesce(s.kind, 'archive') AS kind,"
    " coalesce(s.path, '') AS source, EXISTS (SELECT 1 FROM rollback b"
    "  WHERE b.repository_id = t.repository_id AND b.tag = t.name) AS rolled_back,"
    " EXISTS (SELECT 1 FROM claim c WHERE c.repository_id = t.repository_id AND c.tag = t.name"
    "  AND (c.source_id IS NOT t.source_id OR c.digest != t.digest OR c.sequence != t.sequence))"
    " OR EXISTS (SELECT 1 FROM rollback b WHERE b.repository_id = t.repository_id"
    "  AND b.tag = t.name) AS contested FROM tag t"
    " JOIN repository r ON r.id = t.repository_id JOIN document d ON d.digest = t.digest"
    " LEFT JOIN source s ON s.id = t.source_id WHERE 1"
)
"""Tags; `contested` if the claims differ from the tag itself."""
_INDEX_UNNAMED = (
    "SELECT r.id, r.host, r.path, '' AS name, c.sequence, c.digest, d.media_type,"
    " length(d.raw) AS size, s.kind, s.path AS source, 0 AS rolled_back, 0 AS contested"
    " FROM claim c JOIN repository r ON r.id = c.repository_id"
    " JOIN document d ON d.digest = c.digest JOIN source s ON s.id = c.source_id"
    " WHERE c.tag = ''"
)
_INDEX_CLAIMS = (
    "SELECT DISTINCT c.repository_id, c.tag, s.kind, s.path, c.sequence,"
    " c.digest, d.media_type, length(d.raw) AS size FROM claim c"
    " JOIN source s ON s.id = c.source_id"
    " JOIN document d ON d.digest = c.digest WHERE c.tag != '' AND (s.state != 'removed'"
    " OR EXISTS (SELECT 1 FROM tag_part p WHERE p.source_id = c.source_id"
    " AND p.repository_id = c.repository_id AND p.tag = c.tag))"
)


def _rows_of(
    readers: Readers, sql: str, table: str, ids: tuple[str, ...], order: str = ""
) -> list[sqlite3.Row]:
    """Runs a query, for these repositories only if there are ids."""
    only = f" AND {table}.repository_id IN (SELECT value FROM json_each(?))" if ids else ""  # noqa: S608
    return readers.rows(f"{sql}{only}{order}", *ids)


def _claims_to_write(row: sqlite3.Row, claims: list[IndexClaim]) -> tuple[IndexClaim, ...]:
    """Returns the claims on a tag; none if the entry itself says the only one."""
    if not row["name"]:
        return ()
    if not row["rolled_back"] and len(claims) == 1:
        only = claims[0]
        if (only.kind, only.path, only.digest) == (row["kind"], row["source"], row["digest"]):
            return ()
    return tuple(claims)


def _index_claims(
    readers: Readers, ids: tuple[str, ...]
) -> dict[tuple[int, str], list[IndexClaim]]:
    """Returns the claims of present archives, and of absent ones that their tag still follows."""
    found: dict[tuple[int, str], list[IndexClaim]] = defaultdict(list)
    for r in _rows_of(readers, _INDEX_CLAIMS, "c", ids, " ORDER BY c.sequence, s.path"):
        found[r["repository_id"], r["tag"]].append(
            IndexClaim(r["kind"], r["path"], r["sequence"], r["digest"], r["media_type"], r["size"])
        )
    return found
