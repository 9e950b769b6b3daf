"""JSON objects of the catalog's rows, for the command line and the agent (`docs/cli.md`). No I/O.

Each object has `"schema": 1`, lists are under `"items"`, times are RFC 3339 in UTC or null.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airside import __version__
from airside.archive.formats.image_list import LIST
from airside.catalog.source_paths import shown_source
from airside.catalog.verification import LAST_PASS
from airside.core.rfc3339 import time_text
from airside.diagnostics.image_states import (
    ImageState,
    Runtimes,
    lacking_text,
    recorded_state,
    states_of,
    unpublished_report,
)
from airside.oci.model import Manifest
from airside.store.lost_records import LOST_RECORDS, LostRecords, parse_lost
from airside.store.scrub_results import ScrubPass, parse_pass

if TYPE_CHECKING:  # reading the catalog must not import the readers of archives
    from collections.abc import Collection, Iterable, Mapping

    from airside.archive.reader import Reading
    from airside.catalog.model import EventRow, Generation, ImageRow, SourceRow, TagMove
    from airside.catalog.publications import PublicationRow
    from airside.catalog.view import CatalogView
    from airside.core.problem import Problem
    from airside.importer.importer import Outcome
    from airside.importer.list_puller import ListFile
    from airside.store.gc import Freed, Space
    from airside.store.scrub import ScrubReport

SCHEMA = 1


def images_report(view: CatalogView, runtimes: Runtimes = ()) -> dict[str, Any]:
    """Returns the images with their states in the runtimes of the agent's status."""
    return {"schema": SCHEMA, "items": _images(view, view.images(), runtimes)}


def _images(view: CatalogView, rows: list[ImageRow], runtimes: Runtimes) -> list[dict[str, Any]]:
    states = states_of(view, runtimes)
    return [
        image_report(row, states.of(row.reference, row.digest, is_wanted=row.is_published))
        for row in rows
    ]


def history_report(view: CatalogView, runtimes: Runtimes = ()) -> dict[str, Any]:
    """Returns the images, each with the stored versions of its tag, the current one first."""
    versions, rows = view.generations(), view.images()
    items = [
        image | {"history": [_version(v) for v in versions.get(row.name, [])]}
        for row, image in zip(rows, _images(view, rows, runtimes), strict=True)
    ]
    return {"schema": SCHEMA, "items": items}


def _version(version: Generation) -> dict[str, Any]:
    return {
        "digest": version.digest,
        "at": time_text(version.at),
        "source": shown_source(version.source),
        "platforms": list(version.platforms),
        "current": version.current,
    }


def move_report(move: TagMove) -> dict[str, Any]:
    """Returns the digest of a moved tag, before and after."""
    return {
        "schema": SCHEMA,
        "reference": move.reference,
        "before": move.before,
        "digest": move.after,
    }


def collection_report(freed: list[Freed], *, dry_run: bool) -> dict[str, Any]:
    """Returns the deletions of a collection, or of a dry run, with their reasons."""
    return {
        "schema": SCHEMA,
        "dry_run": dry_run,
        "blobs": sum(line.blobs for line in freed),
        "freed_bytes": sum(line.freed_bytes for line in freed),
        "items": [
            {
                "reference": line.reference,
                "digest": line.digest,
                "reason": line.reason,
                "blobs": line.blobs,
                "freed_bytes": line.freed_bytes,
                "linked_bytes": line.linked_bytes,
            }
            for line in freed
        ],
    }


def image_report(row: ImageRow, states: list[ImageState]) -> dict[str, Any]:
    runtimes = [each.report() for each in states]
    return {
        "reference": row.reference,
        "digest": row.digest,
        "media_type": row.media_type,
        "artifact_type": row.artifact_type,
        "platforms": list(row.platforms),
        "size_bytes": row.size_bytes,
        "archives": list(row.archives),
        "source": row.source,
        "origin": row.origin,
        "pinned": any(each["pinned"] for each in runtimes),
        "runtimes": runtimes,
        "unbacked_since": time_text(row.unbacked_since),
        "moved_at": time_text(row.moved_at),
        "merged": row.merged,
        "mixed": row.mixed,
        "rolled_back": row.rolled_back,
        "parts": [
            {
                "platform": part.platform,
                "digest": part.digest,
                "archive": shown_source(part.archive),
                "backed": part.backed,
                "behind": part.behind,
            }
            for part in row.parts
        ],
    }


def archives_report(view: CatalogView, every: int = 0) -> dict[str, Any]:
    """Returns the archives; with `every`, also the files beside them that are none."""
    rows = (row for row in view.sources() if row.kind not in {"push", "peer"})
    rows = (row for row in rows if every or row.state != "ignored")
    unpublished = view.unpublished()
    return {"schema": SCHEMA, "items": [archive_report(row, unpublished) for row in rows]}


def archive_report(row: SourceRow, unpublished: Collection[PublicationRow] = ()) -> dict[str, Any]:
    """Returns an archive, with those of its images that a runtime lacks."""
    images = set(row.images)
    lacking = [each for each in unpublished if each.reference in images]
    return {
        "path": row.path,
        "kind": row.kind,
        "state": row.state,
        "reason": row.reason or lacking_text(lacking),
        "format": row.format,
        "compression": row.compression,
        "size_bytes": row.size_bytes,
        "images": list(row.images),
        "problems": [_problem(p) for p in row.problems],
        "notes": list(row.notes),
        "unpublished": [recorded_state(each).short_report() for each in lacking],
        "settled_at": time_text(row.settled_at),
        "imported_at": time_text(row.imported_at),
        "seconds": row.seconds,
    }


def _problem(problem: Problem) -> dict[str, str]:
    return {"image": problem.image, "blob": problem.blob, "reason": problem.reason}


def events_report(view: CatalogView, after: int = 0, limit: int = 100) -> dict[str, Any]:
    items = [event_report(row) for row in view.events(after=after, limit=limit)]
    return {"schema": SCHEMA, "items": items}


def event_report(row: EventRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": time_text(row.at),
        "kind": row.kind,
        "path": row.path,
        "reference": row.reference,
        "digest": row.digest,
        "detail": _detail(row.detail),
    }


def _detail(text: str) -> Any:
    """An object if the event recorded one, else its text, which may be anything."""
    if text.startswith("{"):
        with suppress(ValueError):
            return json.loads(text)
    return text


def status_report(view: CatalogView, runtimes: Runtimes = ()) -> dict[str, Any]:
    """Returns the status from the catalog; the agent fills in the live values."""
    counts = view.publication_counts()
    return {
        "schema": SCHEMA,
        "running": False,
        "silent": "",
        "pid": None,
        "version": __version__,
        "data": None,
        **view.counts(),
        "archives": view.states(),
        "unpublished": unpublished_report(view.unpublished()),
        "scrub": scrub_report(parse_pass(view.meta(LAST_PASS))),
        "lost_records": lost_report(parse_lost(view.meta(LOST_RECORDS))),
        "directories": [],
        "listen": None,
        "access": None,
        "read_through": None,
        "runtimes": [{**each, "images": counts.get(each["socket"], {})} for each in runtimes],
        "uptime_seconds": None,
        "imports": [],
        "missing": None,
        "space": None,
    }


def lost_report(lost: LostRecords | None) -> dict[str, Any] | None:
    """Returns the loss of records that nobody acknowledged yet."""
    if lost is None:
        return None
    return {
        "at": time_text(lost.at),
        "reason": lost.reason,
        "set_aside": list(lost.set_aside),
        "restored_from": lost.restored_from,
        "names": lost.names,
        "incomplete": lost.incomplete,
        "incomplete_names": list(lost.incomplete_names),
        "documents": lost.documents,
    }


def acknowledgement_report(*, was_lost: bool) -> dict[str, Any]:
    """Returns whether a loss of records was acknowledged."""
    return {"schema": SCHEMA, "acknowledged": was_lost}


def space_report(space: Space) -> dict[str, Any]:
    """Returns the free space of the store's file system, for `status`."""
    return {
        "free_bytes": space.free_bytes,
        "min_free_bytes": space.min_free_bytes,
        "low_space_bytes": space.low_space_bytes,
        "low_space_percent": space.low_space_percent,
        "total_bytes": space.total_bytes,
        "low": space.low,
    }


def scrub_report(found: ScrubPass | None) -> dict[str, Any] | None:
    """Returns the last pass over the store, or the running one."""
    if found is None:
        return None
    return {
        "by": found.by,
        "started_at": time_text(found.started_at),
        "ended_at": time_text(found.ended_at),
        "blobs": found.blobs,
        "size_bytes": found.size_bytes,
        "wrong": found.wrong,
        "repaired": found.repaired,
        "lost": found.lost,
    }


def verify_report(report: ScrubReport, *, repair: bool) -> dict[str, Any]:
    """Returns the result of a verification."""
    pass_ = scrub_report(report.found) or {}
    return {
        "schema": SCHEMA,
        "repair": repair,
        "right": report.is_right,
        **pass_,
        "seconds": round(report.seconds, 3),
        "items": [
            {
                "digest": str(item.digest),
                "size_bytes": item.size_bytes,
                "problem": item.problem,
                "reason": item.reason,
                "found": item.found,
                "result": item.result,
                "from": item.origin,
                "source": item.source,
                "images": list(item.images),
                "archives": list(item.archives),
                "runtimes": [{"socket": m.runtime, "state": m.state} for m in item.runtimes],
                "advice": item.advice,
            }
            for item in report.items
        ],
    }


def outcome_report(
    outcome: Outcome,
    published: Iterable[PublicationRow] = (),
    runtimes: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Returns the result of an import, also in these runtimes (`socket`, `connected`, `reason`)."""
    relevant = [row for row in published if row.reference in outcome.images]
    return {
        "path": str(outcome.path),
        "state": outcome.state,
        "images": list(outcome.images),
        "problems": [_problem(p) for p in outcome.problems],
        "reason": outcome.reason,
        "new_blobs": outcome.new_blobs,
        "seconds": round(outcome.seconds, 3),
        "runtimes": [_published_there(runtime, relevant) for runtime in runtimes],
    }


def _published_there(
    runtime: Mapping[str, Any], published: Iterable[PublicationRow]
) -> dict[str, Any]:
    rows = [row for row in published if row.runtime == runtime["socket"]]
    return {
        "socket": runtime["socket"],
        "connected": runtime["connected"],
        "reason": runtime["reason"],
        "images": [{"reference": r.reference, **recorded_state(r).report()} for r in rows],
    }


def inspect_report(reading: Reading) -> dict[str, Any]:
    """Returns the contents of an archive; `state` as if it were imported now."""
    judgement, plan = reading.judgement, reading.plan
    kept = {image.root for image in judgement.images}
    state = "rejected" if not kept else ("partial" if judgement.problems else "imported")
    return {
        "schema": SCHEMA,
        "path": str(reading.path),
        "state": state,
        "format": plan.format,
        "compression": reading.compression,
        "size_bytes": reading.key.size_bytes,
        "images": [
            {
                "references": [str(r) for r in image.references],
                "digest": str(image.root),
                "complete": image.root in kept,
            }
            for image in plan.images
        ],
        "documents": [
            {
                "digest": str(digest),
                "media_type": document.media_type,
                "platform": str(plan.platforms.get(digest, "")),
                "size_bytes": document.size_bytes,
                "children": [
                    {
                        "digest": str(c.digest),
                        "media_type": c.media_type,
                        "size_bytes": c.size_bytes,
                    }
                    for c in document.children
                ],
                "kind": "manifest" if isinstance(document.content, Manifest) else "index",
            }
            for digest, document in plan.documents.items()
        ],
        "problems": [_problem(p) for p in judgement.problems],
        "notes": reading.notes,
    }


def list_report(path: str, listed: ListFile) -> dict[str, Any]:
    """Returns the names of a list; `state` as if a runtime had pulled all of them."""
    entries, problems = listed.images.entries, listed.images.problems
    state = "imported" if not problems else "partial" if entries else "rejected"
    return {
        "path": path,
        "state": state,
        "format": LIST,
        "compression": "",
        "size_bytes": listed.key.size_bytes,
        "images": [{"references": [e.name], "digest": "", "complete": True} for e in entries],
        "documents": [],
        "problems": [_problem(p) for p in problems],
        "notes": list(listed.images.notes),
    }
