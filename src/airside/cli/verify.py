"""`airside verify`: re-hashes the store, in the agent or on the locked data directory."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.exclusive import open_alone
from airside.cli.failure import EXIT_DONE, EXIT_FAILED
from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import clean, count_text, duration_text, size_text, write, write_json
from airside.cli.progress import shown_progress, stopped_by_signals
from airside.core.settings import Settings
from airside.diagnostics.reports import verify_report

_TITLE = "verifying"
_SHOWN = 5


@click.command(epilog=example("airside verify", "airside verify --repair --json | jq .items"))
@click.option(
    "--repair",
    is_flag=True,
    help="Repair damaged blobs from the catalog, their archive or containerd.",
)
@data_option
@config_option
@json_option
def verify(data: Path | None, config: Path | None, *, repair: bool, as_json: bool) -> int:
    """Read every blob of the store and verify its digest.

    A damaged blob is quarantined at once and never served. --repair restores it from its archive or
    from containerd's copy, and also replaces containerd's damaged file. The agent does the same in
    the background every scrub_seconds. Exit code 1: blobs are damaged or lost.
    """
    settings = effective_settings(config, data=data).settings
    report = _verify(settings, repair=repair, quiet=as_json)
    if as_json:
        write_json(report)
    else:
        write("\n".join(_text(report)))
    return EXIT_DONE if report["right"] else EXIT_FAILED


def _verify(settings: Settings, *, repair: bool, quiet: bool) -> dict[str, Any]:
    try:
        return _ask_agent(settings.data, repair=repair, quiet=quiet)
    except NoAgentError:
        with ExitStack() as stack:
            node = open_alone(settings, stack)
            progress = stack.enter_context(shown_progress(_TITLE, quiet=quiet))
            stopping = stack.enter_context(stopped_by_signals())
            read = node.imports.read_now if repair else None
            found = node.scrub.verify(read=read, stop=stopping, progress=progress)
            return verify_report(found, repair=repair)


def _ask_agent(data: Path, *, repair: bool, quiet: bool) -> dict[str, Any]:
    with shown_progress(_TITLE, quiet=quiet) as progress:
        return ControlClient(data).follow(
            "/v1/verify", {"repair": repair}, progress, "the verification"
        )


def _text(report: dict[str, Any]) -> list[str]:
    lines = [line for item in report["items"] for line in _item(item)]
    looked = f"{count_text(report['blobs'], 'blob')}, {size_text(report['size_bytes'])}"
    counts = [f"{report[key]} {key}" for key in ("wrong", "repaired", "lost") if report[key]]
    result = ", ".join(counts) or "no errors"
    return [*lines, f"verified {looked} in {duration_text(report['seconds'])}: {result}"]


def _item(item: dict[str, Any]) -> list[str]:
    """The lines of one damaged blob: result, images that need it, and what to do."""
    origin = " ".join(filter(None, (item["from"], item["source"])))
    done = f" from {origin}" if origin else ""
    lines = [f"{item['result']}: {item['digest']}{done}: {item['reason']}"]
    images = item["images"][:_SHOWN]
    more = len(item["images"]) - len(images)
    lines += [f"  needed by {image}" for image in images]
    lines += [f"  and by {more} more"] if more > 0 else []
    lines += [f"  {m['socket']}: the file is {m['state']}" for m in item["runtimes"]]
    lines += [f"  to do: {item['advice']}"] if item["advice"] else []
    return [clean(line) if not line.startswith("  ") else f"  {clean(line[2:])}" for line in lines]
