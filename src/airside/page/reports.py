"""What the page shows: the reports of `airside status`, `archives`, `events`, … Blocking.

Every number of the page is a value of these reports, so it never differs from the command line's.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from airside.catalog.images import ImagePage
from airside.catalog.sources import ArchiveSearch
from airside.catalog.storage_use import StorageUse
from airside.catalog.view import CatalogView
from airside.core.settings import Settings
from airside.diagnostics.absence import place_of
from airside.diagnostics.explain import explain
from airside.diagnostics.external_state import Contents
from airside.diagnostics.image_pages import images_page_report
from airside.diagnostics.missing_images import MissingImages
from airside.diagnostics.reports import archive_report, event_report, status_report
from airside.diagnostics.space_forecast import SPACE_SAMPLES, Sample, parse_samples
from airside.diagnostics.verdict import Verdict, verdict_of

Live = Callable[[], Awaitable[dict[str, Any]]]
"""Returns the part of the status that only the running agent knows. Must not block."""


class Reports:
    """Reads the catalog. `live` of each method is the agent's part. Raises StoreError."""

    def __init__(
        self, view: CatalogView, settings: Settings, contents: Contents, missing: MissingImages
    ) -> None:
        self._view, self._settings = view, settings
        self._contents, self._missing = contents, missing

    def status(self, live: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
        """Returns the report of `airside status`, and what it means."""
        rest = {key: value for key, value in live.items() if key != "runtimes"}
        found = status_report(self._view, live["runtimes"]) | rest
        found["missing"] = self._missing.report()
        return found, verdict_of(found)

    def images(self, page: ImagePage, live: dict[str, Any]) -> dict[str, Any]:
        """Returns a page of the report of `airside images`."""
        return images_page_report(self._view, page, live["runtimes"])

    def archives(self, search: ArchiveSearch) -> dict[str, Any]:
        """Returns a page of the report of `airside archives`, the last changed first.

        Each has the number of its images instead of their names.
        """
        total, found = self._view.listing.archives(search)
        items = [archive_report(each.row) | {"images": each.images} for each in found]
        return {"total": total, "items": items}

    def explain(self, what: str, live: dict[str, Any]) -> dict[str, Any]:
        """Returns the report of `airside explain`. Raises ReferenceInvalidError."""
        place = place_of(self._settings, live["listen"] or "", self._contents)
        return explain(self._view, what, replace(place, runtimes=live["runtimes"]))

    def events(self, before: int, limit: int) -> list[dict[str, Any]]:
        """Returns events, newest first: the newest, or those before a number."""
        return [event_report(row) for row in self._view.listing.events_before(before, limit)]

    def storage(self, limit: int) -> tuple[StorageUse, list[Sample]]:
        """Returns what the repositories use, and the recorded samples of the free space."""
        return self._view.listing.storage_use(limit), parse_samples(self._view.meta(SPACE_SAMPLES))
