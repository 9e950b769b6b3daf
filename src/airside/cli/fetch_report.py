"""Reports from the running agent, or from the catalog while no agent runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.options import effective_settings
from airside.cli.output import write_json

Show = Callable[[dict[str, Any]], None]
"""Prints one report as text."""


def data_directory(config: Path | None, data: Path | None) -> Path:
    """Returns the data directory of the flags or of the settings. Raises ConfigError."""
    return effective_settings(config, data=data).settings.data


def fetch_report(data: Path, name: str, **query: Any) -> dict[str, Any]:
    """Returns the report of this name from the agent, or from the catalog if no agent runs.

    Raises what ControlClient and `offline.read_catalog` raise.
    """
    try:
        return ControlClient(data).get(f"/v1/{name}", query)
    except NoAgentError:
        from airside.cli import offline  # noqa: PLC0415 - SQLite and the rest only without agent

        return offline.read_catalog(data, name, query)


def fetch_pages(data: Path, name: str, **query: Any) -> dict[str, Any]:
    """Returns a report that the agent gives in pages, whole, its items by path.

    Raises as `fetch_report`.
    """
    try:
        client, page = ControlClient(data), None
        items: list[dict[str, Any]] = []
        while page is None or page["next"] is not None:
            page = client.get(f"/v1/{name}", query | ({"after": page["next"]} if page else {}))
            items += page["items"]
    except NoAgentError:
        return fetch_report(data, name, **query)
    items.sort(key=lambda item: str(item["path"]))
    return {"schema": page["schema"], "items": items}


def print_report(report: dict[str, Any], show: Show, *, as_json: bool) -> None:
    """Prints the report as JSON, or as text by `show`."""
    if as_json:
        write_json(report)
    else:
        show(report)
