"""`airside images`: the images that can be pulled."""

from pathlib import Path
from typing import Any

import click

from airside.cli.fetch_report import data_directory, fetch_report, print_report
from airside.cli.options import config_option, data_option, example, json_option
from airside.cli.output import is_terminal, size_text, time_text, write_table

_SHORT_DIGEST = len("sha256:") + 12


@click.command(epilog=example("airside images", "airside images --json | jq -r .items[].reference"))
@click.option("--history", is_flag=True, help="Show the stored versions of each tag.")
@data_option
@config_option
@json_option
def images(data: Path | None, config: Path | None, *, history: bool, as_json: bool) -> None:
    """List the images that can be pulled, and the archives they come from."""
    report = fetch_report(
        data_directory(config, data), "images", **({"history": 1} if history else {})
    )
    print_report(report, _show_history if history else _show, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    if not report["items"]:
        click.echo("no images yet", err=True)
        return
    columns = ("REFERENCE", "DIGEST", "PLATFORMS", "SIZE", "FROM")
    write_table(columns, [_row(item) for item in report["items"]], right=("SIZE",))


def _show_history(report: dict[str, Any]) -> None:
    rows = [
        (
            item["reference"],
            ("rolled back to" if item["rolled_back"] else "now") if version["current"] else "",
            version["digest"],
            time_text(version["at"]),
            ", ".join(version["platforms"]),
            version["source"],
        )
        for item in report["items"]
        for version in item["history"]
    ]
    if not rows:
        click.echo("no tags yet", err=True)
        return
    write_table(("REFERENCE", "", "DIGEST", "SINCE", "PLATFORMS", "FROM"), rows)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    archives = item["archives"]
    reference, digest = item["reference"], item["digest"]
    if is_terminal():
        archives = [path.rpartition("/")[2] for path in archives]
        reference, digest = (
            reference.replace(digest, digest[:_SHORT_DIGEST]),
            digest[:_SHORT_DIGEST],
        )
    origin = ", ".join(archives) or item["source"]
    if item["origin"]:
        source = "pulled through from" if item["source"] == "peer" else "pushed by"
        origin = f"{source} {item['origin']}"
    if item["mixed"]:
        behind = [part["platform"] for part in item["parts"] if part["behind"]]
        origin += f" (mixed versions: {', '.join(behind)} is older)"
    if item.get("unbacked_since"):
        origin = f"unbacked since {time_text(item['unbacked_since'])}"
    platforms = item["artifact_type"] or ", ".join(item["platforms"])
    return (reference, digest, platforms, size_text(item["size_bytes"]), origin)
