"""`airside gc`: runs in the agent, or on the locked data directory if none runs."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import count_text, size_text, write, write_json
from airside.cli.table import write_table
from airside.cli.waiting import shown_waiting
from airside.core.settings import Settings
from airside.diagnostics.reports import collection_report

_SECONDS = 600.0
"""The time limit of a collection in the agent."""


@click.command(epilog=example("airside gc --dry-run", "airside gc --json | jq .freed_bytes"))
@click.option(
    "--dry-run", "-n", is_flag=True, help="Show what would be deleted and why; delete nothing."
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Also delete the blobs without a record that are kept since records were lost.",
)
@data_option
@config_option
@json_option
def gc(
    data: Path | None, config: Path | None, *, dry_run: bool, unknown: bool, as_json: bool
) -> None:
    """Delete expired tags, old versions and unused blobs now.

    The agent does the same every reconcile_seconds, without --unknown. Each line has the reason.
    FREED is the space that the disk regains: deleting a blob that has another hard link frees
    nothing.
    """
    settings = effective_settings(config, data=data).settings
    with shown_waiting("collecting garbage", quiet=as_json):
        report = _collect(settings, dry_run=dry_run, unknown=unknown)
    if as_json:
        write_json(report)
    else:
        _show(report)


def _collect(settings: Settings, *, dry_run: bool, unknown: bool) -> dict[str, Any]:
    client = ControlClient(settings.data)
    try:
        body = {"dry_run": dry_run, "unknown": unknown}
        return client.post("/v1/gc", body, timeout_seconds=_SECONDS)
    except NoAgentError:
        from airside.cli.exclusive import open_alone  # noqa: PLC0415 - only without an agent

        with ExitStack() as stack:
            freed = open_alone(settings, stack).clean(dry_run=dry_run, unknown=unknown)
            return collection_report(freed, dry_run=dry_run)


def _show(report: dict[str, Any]) -> None:
    if report["items"]:
        columns = ("REFERENCE", "DIGEST", "BLOBS", "FREED", "REASON")
        rows = [
            (
                item["reference"],
                item["digest"],
                str(item["blobs"]),
                size_text(item["freed_bytes"]),
                item["reason"],
            )
            for item in report["items"]
        ]
        write_table(columns, rows, right=("BLOBS", "FREED"), optional=("DIGEST", "BLOBS"))
    what = f"{count_text(report['blobs'], 'blob')}, {size_text(report['freed_bytes'])}"
    write(f"would free {what}" if report["dry_run"] else f"freed {what}")
