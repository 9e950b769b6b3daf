"""Reports from the running agent, or from the catalog while no agent runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.options import effective_settings
from airside.cli.output import write_json

Show = Callable[[dict[str, Any]], None]


def data_directory(config: Path | None, data: Path | None) -> Path:
    return effective_settings(config, data=data).settings.data


def fetch_report(data: Path, name: str, **query: Any) -> dict[str, Any]:
    """The report of this name, from the agent or, where none runs, from the catalog."""
    try:
        return ControlClient(data).get(f"/v1/{name}", query)
    except NoAgentError:
        from airside.cli import offline  # noqa: PLC0415 - SQLite and the rest only without agent

        return offline.read_catalog(data, name, query)


def print_report(report: dict[str, Any], show: Show, *, as_json: bool) -> None:
    if as_json:
        write_json(report)
    else:
        show(report)
