"""`airside images`: the images that can be pulled."""

from pathlib import Path
from typing import Any

import click

from airside.cli.fetch_report import data_directory, fetch_report, print_report
from airside.cli.options import config_option, data_option, example, json_option
from airside.cli.output import is_terminal, size_text, time_text
from airside.cli.table import write_table

_SHORT_DIGEST = len("sha256:") + 12
_PLAIN = {"published", "not-for-node", "artifact", "left"}
"""States that need no reason beside them."""


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
    columns = ("REFERENCE", "DIGEST", "PLATFORMS", "SIZE", "RUNTIME", "FROM")
    write_table(
        columns,
        [_row(item) for item in report["items"]],
        right=("SIZE",),
        optional=("PLATFORMS", "DIGEST", "FROM"),
    )


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
    write_table(
        ("REFERENCE", "", "DIGEST", "SINCE", "PLATFORMS", "FROM"),
        rows,
        optional=("PLATFORMS", "FROM"),
    )


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
    runtime = runtime_text(item["runtimes"])
    return (reference, digest, platforms, size_text(item["size_bytes"]), runtime, origin)


def runtime_text(runtimes: list[dict[str, Any]]) -> str:
    """The state in the container runtimes: one word if it is the same and right in all of them."""
    if len({each["state"] for each in runtimes}) == 1 and runtimes[0]["state"] in _PLAIN:
        return str(runtimes[0]["state"])
    texts = []
    for each in runtimes:
        where = f"{each['socket']}: " if len(runtimes) > 1 else ""
        reason = f" ({each['reason']})" if each["reason"] and each["state"] not in _PLAIN else ""
        retry = f", next try {time_text(each['next_try_at'])}" if each["next_try_at"] else ""
        texts.append(f"{where}{each['state']}{retry}{reason}")
    return "; ".join(texts)
