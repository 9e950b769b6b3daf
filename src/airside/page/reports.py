"""What the page shows: the reports of `airside status`, `archives`, `events`, … Blocking.

Every number of the page is a value of these reports, so it never differs from the command line's.
"""

from collections.abc import Callable
from typing import Any

from airside.catalog.view import CatalogView
from airside.diagnostics.reports import events_report, status_report
from airside.diagnostics.verdict import Verdict, verdict_of

Live = Callable[[], dict[str, Any]]
"""Returns the part of the status that only the running agent knows; in the event loop's thread."""


class Reports:
    """Reads the catalog. `live` of each method is the agent's part. Raises StoreError."""

    def __init__(self, view: CatalogView) -> None:
        self._view = view

    def status(self, live: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
        """Returns the report of `airside status`, and what it means."""
        rest = {key: value for key, value in live.items() if key != "runtimes"}
        found = status_report(self._view, live["runtimes"]) | rest
        return found, verdict_of(found)

    def events(self, limit: int) -> list[dict[str, Any]]:
        """Returns the newest events, newest first."""
        items: list[dict[str, Any]] = events_report(self._view, limit=limit)["items"]
        return items[::-1]
