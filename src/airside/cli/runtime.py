"""`airside runtime release`: in the agent, or on the locked data directory if none runs."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import clean, count_text, write, write_json
from airside.cli.table import write_table
from airside.cli.waiting import shown_waiting
from airside.core.settings import Settings

_SECONDS = 600.0
"""The time limit of a release in the agent: each name is one call of containerd."""


@click.group()
def runtime() -> None:
    """Manage what containerd has of other data directories."""


@runtime.command(
    epilog=example("airside runtime release --dry-run", "airside runtime release app:1")
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be deleted; delete nothing.")
@data_option
@config_option
@json_option
def release(
    names: tuple[str, ...],
    data: Path | None,
    config: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete names that another data directory published to containerd.

    Without NAME all that no image of this data directory needs. What a container uses stays, and
    sandbox (pause) images unless they are named. Images without another name go with their names.
    """
    settings = effective_settings(config, data=data).settings
    with shown_waiting("asking containerd", quiet=as_json):
        report = _release(settings, names, dry_run=dry_run)
    write_json(report) if as_json else _show(report)


def _release(settings: Settings, names: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    body = {"names": list(names), "dry_run": dry_run}
    try:
        return ControlClient(settings.data).post("/v1/release", body, timeout_seconds=_SECONDS)
    except NoAgentError:
        from airside.agent.release import release_names  # noqa: PLC0415 - only without an agent
        from airside.agent.runtime_connections import connected_runtimes  # noqa: PLC0415
        from airside.cli.exclusive import open_alone  # noqa: PLC0415

        with ExitStack() as stack:
            node = open_alone(settings, stack)
            connections = stack.enter_context(connected_runtimes(node))
            connected = [(c.socket, c.runtime) for c in connections if c.runtime is not None]
            claimed = [(socket, found, found.claim()) for socket, found in connected]
            return release_names(node, claimed, names, dry_run=dry_run)


def _show(report: dict[str, Any]) -> None:
    if report["items"]:
        columns = ("NAME", "DIGEST", "PUBLISHED BY", "STATE")
        rows = [
            (clean(i["name"]), i["digest"], clean(i["agent"]) or "-", _STATES[i["state"]])
            for i in report["items"]
        ]
        write_table(columns, rows)
    count = sum(item["state"] == "released" for item in report["items"])
    what = count_text(count, "name")
    write(f"would delete {what}" if report["dry_run"] else f"deleted {what}")


_STATES = {
    "released": "released",
    "used": "kept: a container uses it",
    "sandbox": "kept: a sandbox image (name it to delete it)",
    "absent": "not a name of another data directory",
}
