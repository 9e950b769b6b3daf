"""The images in pages: a report of all of them may be long."""

from typing import Any

from airside.catalog.images import ImagePage
from airside.catalog.view import CatalogView
from airside.diagnostics.image_states import ImageStates, Runtimes
from airside.diagnostics.reports import SCHEMA, image_report


def images_page_report(
    view: CatalogView, page: ImagePage, runtimes: Runtimes = ()
) -> dict[str, Any]:
    """Returns the names of a page as `images_report` does. `total`: how many fit."""
    total, rows = view.listing.images(page)
    states = ImageStates(view.listing.published_as({row.reference for row in rows}), runtimes)
    items = [
        image_report(row, states.of(row.reference, row.digest, is_wanted=row.is_published))
        for row in rows
    ]
    return {"schema": SCHEMA, "total": total, "items": items}
