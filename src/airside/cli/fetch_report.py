"""Reports from the running agent, or from the catalog while no agent runs, or one that hangs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError, SilentAgentError
from airside.cli.options import effective_settings
from airside.cli.output import clean, write_json
from airside.cli.waiting import shown_waiting
from airside.core.errors import AirsideError

ANSWER_SECONDS = 2.5
"""After this time the agent is said to hang, and the catalog is read: in all less than 5 s."""

Show = Callable[[dict[str, Any]], None]
"""Prints one report as text."""


def data_directory(config: Path | None, data: Path | None) -> Path:
    """Returns the data directory of the flags or of the settings. Raises ConfigError."""
    return effective_settings(config, data=data).settings.data


def fetch_report(data: Path, name: str, **query: Any) -> dict[str, Any]:
    """Returns the report of this name from the agent, or from the catalog if no agent runs.

    From the catalog also if the agent does not answer in time: then `silent` of the report says so.
    Raises what ControlClient and `offline.read_catalog` raise.
    """
    with shown_waiting("asking the agent", quiet=True):
        return _fetched(data, name, query)


def _fetched(data: Path, name: str, query: dict[str, Any]) -> dict[str, Any]:
    try:
        return ControlClient(data).get(f"/v1/{name}", query, timeout_seconds=ANSWER_SECONDS)
    except NoAgentError:
        return _from_catalog(data, name, query)
    except SilentAgentError as exc:
        return _last_report(data, name, query, exc)


def _from_catalog(data: Path, name: str, query: dict[str, Any]) -> dict[str, Any]:
    from airside.cli import offline  # noqa: PLC0415 - SQLite and the rest only without agent

    return offline.read_catalog(data, name, query)


def _last_report(
    data: Path, name: str, query: dict[str, Any], silent: SilentAgentError
) -> dict[str, Any]:
    """Returns the report from the catalog of an agent that hangs. Raises what it raised, if not."""
    from airside.store.data_lock import LOCK, lock_holder  # noqa: PLC0415 - only of one that hangs

    try:
        found = _from_catalog(data, name, query)
    except AirsideError:
        raise silent from None
    found["silent"] = silent.message
    if name == "status":
        found |= {"running": True, "pid": lock_holder(data / LOCK)}
    return found


def fetch_pages(data: Path, name: str, **query: Any) -> dict[str, Any]:
    """Returns a report that the agent gives in pages, whole, its items by path.

    Raises as `fetch_report`.
    """
    with shown_waiting("asking the agent", quiet=True):
        return _fetched_pages(data, name, query)


def _fetched_pages(data: Path, name: str, query: dict[str, Any]) -> dict[str, Any]:
    try:
        client, page = ControlClient(data), None
        items: list[dict[str, Any]] = []
        while page is None or page["next"] is not None:
            asked = query | ({"after": page["next"]} if page else {})
            page = client.get(f"/v1/{name}", asked, timeout_seconds=ANSWER_SECONDS)
            items += page["items"]
    except NoAgentError:
        return _from_catalog(data, name, query)
    except SilentAgentError as exc:
        return _last_report(data, name, query, exc)
    items.sort(key=lambda item: str(item["path"]))
    return {"schema": page["schema"], "items": items}


def print_report(report: dict[str, Any], show: Show, *, as_json: bool) -> None:
    """Prints the report as JSON, or as text by `show`; says if it is not the agent's."""
    if as_json:
        write_json(report)
        return
    if report.get("silent"):
        click.echo(f"{clean(report['silent'])}; this is what its catalog has", err=True)
    show(report)
