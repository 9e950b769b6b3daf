"""`airside events`: the recorded events, and new ones as they happen."""

from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient
from airside.cli.fetch_report import data_directory, fetch_report, print_report
from airside.cli.options import config_option, data_option, example, json_option
from airside.cli.output import clean, time_text, write, write_json_line
from airside.cli.table import write_table
from airside.core.errors import UnavailableError


@click.command(epilog=example("airside events --limit 20", "airside events --follow --json"))
@click.option("--follow", "-f", is_flag=True, help="Show new events too, until Ctrl-C.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(0, 1000),
    default=100,
    show_default=True,
    help="The number of newest events to show.",
)
@data_option
@config_option
@json_option
def events(
    data: Path | None, config: Path | None, *, follow: bool, limit: int, as_json: bool
) -> None:
    """Show recorded events, oldest first, or follow new ones.

    With --follow --json, each line is one event.
    """
    directory = data_directory(config, data)
    if follow:
        _follow(directory, limit, as_json=as_json)
    else:
        print_report(fetch_report(directory, "events", limit=limit), _show, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    if not report["items"]:
        click.echo("no events yet", err=True)
        return
    columns = ("ID", "TIME", "EVENT", "WHAT", "DETAIL")
    write_table(columns, [_row(item) for item in report["items"]], right=("ID",), optional=("ID",))


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    what = " ".join(text for text in (item["reference"], item["path"]) if text)
    return (str(item["id"]), time_text(item["at"]), item["kind"], what, _detail(item["detail"]))


def _detail(detail: Any) -> str:
    if isinstance(detail, dict):
        return " ".join(
            f"{key}={value}" for key, value in detail.items() if value not in ("", None)
        )
    return str(detail or "")


def _follow(data: Path, limit: int, *, as_json: bool) -> None:
    client = ControlClient(data)
    items = client.get("/v1/events", {"limit": max(limit, 1)})["items"]
    last = items[-1]["id"] if items else 0
    for item in items if limit else ():
        _write_event(item, as_json=as_json)
    for item in client.iter_lines("GET", "/v1/events", {"follow": 1, "after": last}):
        if item["id"] > last:
            last = item["id"]
            _write_event(item, as_json=as_json)
    raise UnavailableError("the agent closed the stream of events: it was stopped")


def _write_event(item: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json_line(item)
    else:
        _, time, kind, what, detail = map(clean, _row(item))
        write(f"{time}  {kind:<10}  {what}  {detail}".rstrip())
