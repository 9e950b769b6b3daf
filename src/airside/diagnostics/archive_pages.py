"""The archives in pages: a report of all of them may be long."""

from typing import Any

from airside.catalog.sources import SourcePage
from airside.catalog.view import CatalogView
from airside.diagnostics.reports import SCHEMA, archive_report


def archives_page_report(
    view: CatalogView, after: int, limit: int, *, ignored: bool = False
) -> dict[str, Any]:
    """Returns a page of archives. `next`: the `after` of the next page; null: it is the last.

    `ignored`: also the files beside archives that are none.
    """
    rows = view.sources(page=SourcePage(after, limit + 1, ignored))
    more = len(rows) > limit
    unpublished = view.unpublished()
    items = [archive_report(row, unpublished) for row in rows[:limit]]
    return {"schema": SCHEMA, "items": items, "next": rows[limit - 1].id if more else None}
