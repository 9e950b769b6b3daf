"""The results of imports of uploaded archives. Blocking."""

from pathlib import Path
from typing import Any

from airside.archive.stat_key import StatKey
from airside.catalog.view import CatalogView

WAITING = "waiting"
"""The catalog does not know this file yet: it has not settled."""


class ImportResults:
    """Reads the catalog. Raises StoreError."""

    def __init__(self, view: CatalogView) -> None:
        self._view = view

    def of(self, path: Path) -> dict[str, Any]:
        """Returns the state of the archive, the reason, and the images that it brought."""
        rows = self._view.sources(path=str(path))
        try:
            key = str(StatKey.of(path.stat()))
        except OSError:
            key = ""
        row = next((each for each in rows if each.stat_key == key), None)
        if row is None:
            return {"state": WAITING, "reason": "", "images": []}
        return {"state": row.state, "reason": row.reason, "images": list(row.images)}
