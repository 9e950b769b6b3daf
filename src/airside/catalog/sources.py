"""Sources as people see them: with their images, notes and problems."""

import json
import sqlite3
from collections import defaultdict
from typing import NamedTuple

from airside.catalog.database import Readers
from airside.catalog.model import KINDS, SourceRow, name_of
from airside.core.problem import Problem
from airside.oci.digest import parse_digest
from airside.oci.reference import Repository


class SourcePage(NamedTuple):
    """At most `limit` archives whose ids are greater than `after`, by id.

    `ignored`: also the files beside archives that are none.
    """

    after: int
    limit: int
    ignored: bool = True


class ArchiveSearch(NamedTuple):
    """At most `limit` archives and lists from `offset` on whose path holds the text.

    `only`: empty for all that are present, else `problems` or a state.
    """

    text: str = ""
    only: str = ""
    limit: int = 50
    offset: int = 0


_FOUND = (
    "SELECT id, count(*) OVER () AS total FROM source WHERE kind NOT IN ('push', 'peer')"
    " AND instr(lower(path), ?1) AND (?2 = '' AND state NOT IN ('ignored', 'removed')"
    "  OR ?2 = 'problems' AND state IN"
    "   ('rejected', 'failed', 'unreadable', 'incomplete', 'partial')"
    "  OR state = ?2) ORDER BY changed_at DESC, id DESC LIMIT ?3 OFFSET ?4"
)


class FoundArchive(NamedTuple):
    """An archive or list without the names of its images, which may be many."""

    row: SourceRow
    images: int


def find_archives(readers: Readers, search: ArchiveSearch) -> tuple[int, list[FoundArchive]]:
    """Returns how many archives and lists fit, and those of the page, the last changed first."""
    text = search.text.lower()
    rows = readers.rows(_FOUND, text, search.only, search.limit, search.offset)
    if not rows and search.offset:
        first = readers.rows(_FOUND, text, search.only, 1, 0)
        return (first[0]["total"] if first else 0), []
    order = {r["id"]: number for number, r in enumerate(rows)}
    ids = ", ".join(map(str, order))
    counts = {
        r["source_id"]: r["n"]
        for r in readers.rows(
            f"SELECT source_id, count(*) AS n FROM claim WHERE source_id IN ({ids})"  # noqa: S608
            " GROUP BY source_id"
        )
    }
    found = _sources(readers, f"WHERE s.id IN ({ids})", (), has_images=False)
    found.sort(key=lambda row: order[row.id])
    items = [FoundArchive(row, counts.get(row.id, len(row.images))) for row in found]
    return (rows[0]["total"] if rows else 0), items


def list_sources(
    readers: Readers, path: str | None = None, page: SourcePage | None = None
) -> list[SourceRow]:
    """Returns sources with their images, notes and problems, by path; of one path or of all.

    A page is by id, and has no pushes.
    """
    if page is not None:
        return _page(readers, page)
    if path is None:
        return _sources(readers, "", ())
    kinds = ", ".join("?" * len(KINDS))  # the key of the table begins with the kind
    return _sources(readers, f"WHERE s.kind IN ({kinds}) AND s.path = ?", (*KINDS, path))


def _page(readers: Readers, page: SourcePage) -> list[SourceRow]:
    rows = readers.rows(
        "SELECT id FROM source WHERE kind NOT IN ('push', 'peer') AND id > ?"
        " AND (? OR state != 'ignored') ORDER BY id LIMIT ?",
        page.after,
        page.ignored,
        page.limit,
    )
    ids = ", ".join(str(r["id"]) for r in rows)
    found = _sources(readers, f"WHERE s.id IN ({ids})", ())
    return sorted(found, key=lambda row: row.id)


def _sources(
    readers: Readers, where: str, values: tuple[str, ...], *, has_images: bool = True
) -> list[SourceRow]:
    of_these = f"source_id IN (SELECT s.id FROM source s {where})" if where else "1"  # noqa: S608
    rows = readers.rows(f"SELECT s.* FROM source s {where} ORDER BY s.path", *values)  # noqa: S608
    images: dict[int, list[str]] = defaultdict(list)
    if has_images:
        images = _claimed_images(readers, of_these, values)
    problems: dict[int, list[Problem]] = defaultdict(list)
    pulled: dict[int, dict[str, None]] = defaultdict(dict)  # images of lists
    for r in readers.rows(
        f"SELECT * FROM problem WHERE {of_these} ORDER BY source_id, position",  # noqa: S608
        *values,
    ):
        if r["reason"]:
            problems[r["source_id"]].append(Problem(r["reason"], r["image"], r["blob"]))
        else:
            pulled[r["source_id"]][r["image"]] = None
    for source_id, names in pulled.items():
        wanting = {problem.image for problem in problems[source_id]}
        images[source_id] += [name for name in names if name not in wanting]
    return [_source(r, tuple(images[r["id"]]), tuple(problems[r["id"]])) for r in rows]


def _claimed_images(
    readers: Readers, of_these: str, values: tuple[str, ...]
) -> dict[int, list[str]]:
    images: dict[int, list[str]] = defaultdict(list)
    for r in readers.rows(
        "SELECT c.source_id, c.tag, c.digest, r.host, r.path FROM claim c"  # noqa: S608
        f" JOIN repository r ON r.id = c.repository_id WHERE {of_these}"
        " ORDER BY c.source_id, c.position",
        *values,
    ):
        repository = Repository(r["host"], r["path"])
        name = name_of(repository, r["tag"], parse_digest(r["digest"]))
        images[r["source_id"]].append(name)
    return images


def _source(row: sqlite3.Row, images: tuple[str, ...], problems: tuple[Problem, ...]) -> SourceRow:
    return SourceRow(
        id=row["id"],
        kind=row["kind"],
        path=row["path"],
        stat_key=row["stat_key"],
        sequence=row["sequence"],
        state=row["state"],
        reason=row["reason"],
        format=row["format"],
        compression=row["compression"],
        size_bytes=row["size_bytes"],
        settled_at=row["settled_at"],
        changed_at=row["changed_at"],
        imported_at=row["imported_at"],
        seconds=row["seconds"],
        images=images,
        notes=tuple(json.loads(row["notes"])),
        problems=problems,
    )
