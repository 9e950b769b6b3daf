"""`airside archives`: the archives and their states."""

from pathlib import Path
from typing import Any

import click

from airside.cli.fetch_report import data_directory, fetch_pages, print_report
from airside.cli.options import config_option, data_option, example, json_option
from airside.cli.output import count_text, size_text, time_text
from airside.cli.table import write_table


@click.command(epilog=example("airside archives", "airside archives --json"))
@click.option(
    "--all", "every", is_flag=True, help="Show also the files beside archives that are ignored."
)
@data_option
@config_option
@json_option
def archives(data: Path | None, config: Path | None, *, every: bool, as_json: bool) -> None:
    """List the archives, the state of each, and the reason."""
    query = {"every": 1} if every else {}
    report = fetch_pages(data_directory(config, data), "archives", **query)
    print_report(report, _show, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    if not report["items"]:
        click.echo("no archives yet", err=True)
        return
    columns = ("PATH", "STATE", "FORMAT", "SIZE", "IMAGES", "IMPORTED", "REASON")
    rows = [_row(item) for item in report["items"]]
    write_table(
        columns, rows, right=("SIZE", "IMAGES"), optional=("FORMAT", "IMPORTED", "IMAGES", "SIZE")
    )


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    packed = item["compression"] not in ("", "none")
    more = len(item["problems"]) - 1
    return (
        item["path"],
        item["state"],
        item["format"] + (f" ({item['compression']})" if packed else ""),
        size_text(item["size_bytes"]),
        str(len(item["images"])),
        time_text(item["imported_at"]),
        item["reason"] + (f" (and {count_text(more, 'more problem')})" if more > 0 else ""),
    )
