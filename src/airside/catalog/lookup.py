"""Lookups of one thing in the catalog: the rows that `airside explain` reports."""

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass

from airside.catalog.database import Readers
from airside.catalog.documents import BELOW
from airside.core.problem import Problem
from airside.oci.digest import parse_digest
from airside.oci.model import Document, parse_document
from airside.oci.reference import Reference, Repository

_TROUBLE = (
    "incomplete",
    "failed",
    "rejected",
    "partial",
    "unreadable",
    "waiting",
    "queued",
    "importing",
    "settling",
)
_SHOWN_DIGESTS = 20


@dataclass(frozen=True, slots=True)
class TagRow:
    """The document that a tag points at, and since when."""

    digest: str
    moved_at: float
    unbacked_since: float | None
    rolled_back: bool


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """An archive's claim on a tag; `platforms` are those that it has."""

    path: str
    kind: str
    state: str
    sequence: int
    digest: str
    alias: str
    settled_at: float
    imported_at: float | None
    platforms: tuple[str, ...]
    origin: str = ""
    """The client of a push."""

    @property
    def present(self) -> bool:
        return self.state != "removed"


@dataclass(frozen=True, slots=True)
class PartRow:
    """The manifest that a tag has for a platform, and its archive."""

    platform: str
    digest: str
    archive: str
    backed: bool
    behind: bool


@dataclass(frozen=True, slots=True)
class IncompleteImport:
    """An archive that is not imported completely."""

    path: str
    state: str
    reason: str
    problems: tuple[Problem, ...]
    kind: str = "archive"


@dataclass(frozen=True, slots=True)
class ListEntry:
    """A name of a list: the runtime that pulled it, or the reason why it was not pulled."""

    path: str
    state: str
    runtime: str
    reason: str


class Lookup:
    """Bounded queries, by index. As thread-safe as the readers. Raises StoreError."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return self._readers.rows(sql, *values)

    def tag(self, name: Reference) -> TagRow | None:
        rows = self._rows(
            "SELECT t.digest, t.moved_at, t.unbacked_since, b.sequence IS NOT NULL AS rolled_back"
            " FROM tag t JOIN repository r ON r.id = t.repository_id"
            " LEFT JOIN rollback b ON b.repository_id = t.repository_id AND b.tag = t.name"
            " WHERE r.path = ? AND r.host = ? AND t.name = ?",
            *_key(name),
        )
        if not rows:
            return None
        r = rows[0]
        return TagRow(r["digest"], r["moved_at"], r["unbacked_since"], bool(r["rolled_back"]))

    def claims(self, name: Reference) -> list[ClaimRow]:
        """Returns the claims on a tag, newest first."""
        rows = self._rows(
            "SELECT s.path, s.kind, s.state, c.sequence, c.digest, c.alias, s.settled_at,"
            " s.imported_at, s.origin, (SELECT group_concat(p.platform, ' ') FROM claim_part p"
            "  WHERE p.source_id = c.source_id AND p.position = c.position AND p.held"
            "  AND p.attested = '') AS platforms FROM claim c"
            " JOIN source s ON s.id = c.source_id JOIN repository r ON r.id = c.repository_id"
            " WHERE r.path = ? AND r.host = ? AND c.tag = ? ORDER BY c.sequence DESC",
            *_key(name),
        )
        return [
            ClaimRow(
                r["path"],
                r["kind"],
                r["state"],
                r["sequence"],
                r["digest"],
                r["alias"],
                r["settled_at"],
                r["imported_at"],
                tuple(sorted((r["platforms"] or "").split())),
                r["origin"],
            )
            for r in rows
        ]

    def parts(self, name: Reference) -> list[PartRow]:
        rows = self._rows(
            "SELECT p.platform, p.digest, p.version, coalesce(s.path, '') AS path,"
            " s.state != 'removed' AND EXISTS (SELECT 1 FROM claim c WHERE c.source_id ="
            " p.source_id AND c.repository_id = p.repository_id AND c.tag = p.tag) AS backed"
            " FROM tag_part p JOIN repository r ON r.id = p.repository_id"
            " LEFT JOIN source s ON s.id = p.source_id"
            " WHERE r.path = ? AND r.host = ? AND p.tag = ? ORDER BY p.platform",
            *_key(name),
        )
        top = max((r["version"] for r in rows), default=0)
        return [
            PartRow(
                r["platform"], r["digest"], r["path"], bool(r["backed"]), behind=r["version"] < top
            )
            for r in rows
        ]

    def document(self, digest: str) -> Document | None:
        rows = self._rows("SELECT raw, media_type FROM document WHERE digest = ?", digest)
        if not rows:
            return None
        algorithm = parse_digest(digest).algorithm
        return parse_document(rows[0]["raw"], rows[0]["media_type"], digest, algorithm=algorithm)

    def platform(self, digest: str) -> str:
        rows = self._rows("SELECT platform FROM document WHERE digest = ?", digest)
        return str(rows[0]["platform"]) if rows else ""

    def below(self, digest: str) -> tuple[int, list[tuple[str, str]]]:
        """Returns the bytes of the blobs below a document, and (digest, state) of lost ones."""
        rows = self._rows(
            f"{BELOW} SELECT below.digest, b.size_bytes, b.state FROM below"  # noqa: S608
            " JOIN blob b ON b.digest = below.digest",
            digest,
        )
        lost = [(r["digest"], r["state"]) for r in rows if r["state"] != "held"]
        return sum(r["size_bytes"] for r in rows), lost

    def versions(self, name: Reference) -> list[tuple[str, str, float, tuple[str, ...]]]:
        """Returns the kept versions (digest, path, since, platforms), the current one first."""
        rows = self._rows(
            "SELECT g.digest, g.source_path, g.at, g.platforms FROM tag_generation g"
            " JOIN repository r ON r.id = g.repository_id"
            " WHERE r.path = ? AND r.host = ? AND g.tag = ? ORDER BY g.id DESC",
            *_key(name),
        )
        return [
            (r["digest"], r["source_path"], r["at"], tuple(json.loads(r["platforms"])))
            for r in rows
        ]

    def same(self, digest: str) -> list[str]:
        """Returns the tags that point at this document, at most 100."""
        rows = self._rows(
            "SELECT r.host, r.path, t.name FROM tag t JOIN repository r ON r.id = t.repository_id"
            " WHERE t.digest = ? ORDER BY r.host, r.path, t.name LIMIT 100",
            digest,
        )
        return [f"{Repository(r['host'], r['path'])}:{r['name']}" for r in rows]

    def referrers(self, digest: str) -> list[tuple[str, str]]:
        """Returns (digest, artifact type) of the referrers of a document or of one below it."""
        rows = self._rows(
            f"{BELOW} SELECT d.digest, d.artifact_type FROM below"  # noqa: S608
            " JOIN document d ON d.subject = below.digest WHERE d.subject != '' ORDER BY d.digest",
            digest,
        )
        return [(r["digest"], r["artifact_type"]) for r in rows]

    def tags(self, repository: Repository) -> list[tuple[str, str]]:
        """Returns (tag, digest) of a repository."""
        rows = self._rows(
            "SELECT t.name, t.digest FROM tag t JOIN repository r ON r.id = t.repository_id"
            " WHERE r.path = ? AND r.host = ? ORDER BY t.name",
            repository.path,
            repository.host,
        )
        return [(r["name"], r["digest"]) for r in rows]

    def names(self) -> list[Reference]:
        """Returns every tag that can be pulled."""
        rows = self._rows(
            "SELECT r.host, r.path, t.name FROM tag t JOIN repository r ON r.id = t.repository_id"
        )
        return [Reference(Repository(r["host"], r["path"]), r["name"]) for r in rows]

    def digests(self, prefix: str) -> list[str]:
        """Returns the known digests of documents and blobs that begin with `prefix`.

        `prefix` includes the algorithm.
        """
        rows = self._rows(
            "SELECT digest FROM blob WHERE digest >= ? AND digest < ? ORDER BY digest LIMIT ?",
            prefix,
            prefix + "g",
            _SHOWN_DIGESTS,
        )
        return [r["digest"] for r in rows]

    def blob(self, digest: str) -> tuple[int, str, float] | None:
        """Returns (bytes, state, time of verification) of a blob, or None."""
        rows = self._rows(
            "SELECT size_bytes, state, verified_at FROM blob WHERE digest = ?", digest
        )
        return (rows[0]["size_bytes"], rows[0]["state"], rows[0]["verified_at"]) if rows else None

    def users(self, digest: str) -> tuple[list[str], list[str]]:
        """Returns the tags and the paths of the archives at or above a blob."""
        above = (
            "WITH RECURSIVE above(digest) AS (VALUES (?) UNION SELECT e.parent FROM edge e"
            " JOIN above ON e.child = above.digest)"
        )
        tags = self._rows(
            f"{above} SELECT r.host, r.path, t.name FROM above JOIN tag t ON t.digest ="  # noqa: S608
            " above.digest JOIN repository r ON r.id = t.repository_id ORDER BY 1, 2, 3 LIMIT 100",
            digest,
        )
        archives = self._rows(
            f"{above} SELECT DISTINCT s.path FROM above JOIN claim c ON c.digest ="  # noqa: S608
            " above.digest JOIN source s ON s.id = c.source_id"
            " WHERE s.state != 'removed' ORDER BY s.path LIMIT 100",
            digest,
        )
        names = [f"{Repository(r['host'], r['path'])}:{r['name']}" for r in tags]
        return names, [r["path"] for r in archives]

    def paths(self, name: str) -> list[str]:
        """Returns the archives with this path or file name."""
        rows = self._rows(
            "SELECT path FROM source WHERE kind NOT IN ('push', 'peer')"
            " AND (path = ? OR substr(path, ?) = ?)"
            " ORDER BY path LIMIT 100",
            name,
            -len(name) - 1,
            f"/{name}",
        )
        return [r["path"] for r in rows]

    def claimed_by(self, path: str) -> list[tuple[Reference, str]]:
        """Returns (name, digest) of an archive's documents; without a tag for an unnamed one."""
        rows = self._rows(
            "SELECT r.host, r.path, c.tag, c.digest FROM claim c"
            " JOIN source s ON s.id = c.source_id JOIN repository r ON r.id = c.repository_id"
            " WHERE s.path = ? ORDER BY c.position",
            path,
        )
        return [(Reference(Repository(r["host"], r["path"]), r["tag"]), r["digest"]) for r in rows]

    def troubles(self) -> list[IncompleteImport]:
        """Returns every archive that is not imported completely, with its problems."""
        marks = ", ".join("?" * len(_TROUBLE))
        problems: dict[int, list[Problem]] = defaultdict(list)
        for r in self._rows(
            "SELECT source_id, image, blob, reason FROM problem WHERE reason != '' LIMIT 10000"
        ):
            problems[r["source_id"]].append(Problem(r["reason"], r["image"], r["blob"]))
        rows = self._rows(
            f"SELECT id, path, state, reason, kind FROM source WHERE state IN ({marks})"  # noqa: S608
            " ORDER BY changed_at DESC LIMIT 1000",
            *_TROUBLE,
        )
        return [
            IncompleteImport(
                r["path"], r["state"], r["reason"], tuple(problems[r["id"]]), r["kind"]
            )
            for r in rows
        ]

    def listed(self, name: str) -> list[ListEntry]:
        """Returns the state of a full name in each list that has it."""
        rows = self._rows(
            "SELECT s.path, s.state, p.blob, p.reason FROM problem p"
            " JOIN source s ON s.id = p.source_id WHERE s.format = 'list' AND p.image = ?"
            " ORDER BY s.path, p.position",
            name,
        )
        return [ListEntry(r["path"], r["state"], r["blob"], r["reason"]) for r in rows]

    def last_seen(self, reference: str) -> tuple[str, float, str, str] | None:
        """Returns the last event about a name that is not a tag now: kind, time, path, client.

        Events of runtimes are left out: they follow from the others.
        """
        rows = self._rows(
            "SELECT kind, at, path, CASE WHEN kind IN ('pushed', 'deleted') THEN detail ELSE ''"
            " END AS client FROM event WHERE reference = ? AND kind NOT IN"
            " ('published', 'withdrawn') ORDER BY id DESC LIMIT 1",
            reference,
        )
        return next(((r["kind"], r["at"], r["path"], r["client"]) for r in rows), None)


def _key(name: Reference) -> tuple[str, str, str]:
    return name.repository.path, name.repository.host, name.tag
