"""Reports from the catalog while no agent runs. Read-only: takes no lock, changes nothing."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from airside.catalog.view import CatalogView, open_view
from airside.cli.client import NotPermittedError
from airside.core.errors import NotFoundError
from airside.core.settings import Settings
from airside.diagnostics import reports as report


def _images(view: CatalogView, history: int = 0) -> dict[str, Any]:
    return report.history_report(view) if history else report.images_report(view)


_REPORTS: dict[str, Callable[..., dict[str, Any]]] = {
    "status": report.status_report,
    "images": _images,
    "archives": report.archives_report,
    "events": report.events_report,
}


def read_catalog(data: Path, name: str, query: dict[str, Any]) -> dict[str, Any]:
    """Returns the report of this name. Raises NotFoundError, NotPermittedError, StoreError."""
    with closing(_open(data)) as view:
        found = _REPORTS[name](view, **query)
    if name == "status":
        found["data"] = str(data)
    return found


def explain_from_catalog(settings: Settings, what: str) -> dict[str, Any]:
    """Explains a name, digest or file. No registry serves, so there are no pull commands."""
    from airside.diagnostics.absence import place_of  # noqa: PLC0415 - 0.2 s, not for status
    from airside.diagnostics.explain import explain  # noqa: PLC0415

    with closing(_open(settings.data)) as view:
        return explain(view, what, place_of(settings, ""))


def _open(data: Path) -> CatalogView:
    path = data / "catalog.db"
    try:
        path.stat()
    except PermissionError as exc:
        raise _not_permitted(path) from exc
    except OSError as exc:
        raise NotFoundError(
            f"no agent runs on {data}, and the directory has no catalog",
            path=path,
            hint=f"start the agent (airside run --data {data}), or pass its directory with --data",
        ) from exc
    if not os.access(path, os.R_OK):
        raise _not_permitted(path)
    return open_view(path)


def _not_permitted(path: Path) -> NotPermittedError:
    return NotPermittedError(
        f"no agent runs, and permission to read the catalog {path} is denied",
        path=path,
        hint="run the command as root (sudo) or as the user of the agent",
    )
