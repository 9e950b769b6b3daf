"""`airside status`: the state of the agent and of its store."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.failure import EXIT_DONE, EXIT_FAILED
from airside.cli.fetch_report import data_directory, fetch_report, print_report
from airside.cli.options import config_option, data_option, effective_settings, example, json_option
from airside.cli.output import (
    count_text,
    duration_text,
    size_text,
    time_text,
    write,
    write_json,
)
from airside.cli.status_screen import status_text
from airside.core.settings import Settings
from airside.diagnostics.verdict import verdict_of

_SHOWN_NAMES = 5
_UNHEALTHY = {"silent", "stopped", "full", "runtime-away"}
"""Concerns that make the agent unhealthy; an archive or image that is bad does not."""


@click.command(epilog=example("airside status", "airside status --json | jq .archives"))
@click.option(
    "--acknowledge",
    is_flag=True,
    help="End the report of lost records, after you read it; nothing is deleted.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Health check: exit with 1 if no agent answers, its disk is full or containerd away.",
)
@data_option
@config_option
@json_option
def status(
    data: Path | None, config: Path | None, *, acknowledge: bool, check: bool, as_json: bool
) -> int:
    """Show whether all is well, what to do if not, and the state of everything.

    Without an agent, show the state that the catalog recorded last. On a terminal it fits the
    screen; a pipe gets all of it.
    """
    if acknowledge:
        report = _acknowledge(effective_settings(config, data=data).settings)
        text = "acknowledged" if report["acknowledged"] else "no loss of records is reported"
        write_json(report) if as_json else write(text)
        return EXIT_DONE
    report = fetch_report(data_directory(config, data), "status")
    verdict = verdict_of(report)
    report["verdict"] = verdict.report()
    print_report(report, lambda found: write(status_text(verdict, _rows(found))), as_json=as_json)
    is_bad = any(item["code"] in _UNHEALTHY for item in report["verdict"]["items"])
    return EXIT_FAILED if check and is_bad else EXIT_DONE


def _acknowledge(settings: Settings) -> dict[str, Any]:
    try:
        return ControlClient(settings.data).post("/v1/acknowledge", {})
    except NoAgentError:
        from airside.cli.exclusive import open_alone  # noqa: PLC0415 - only without an agent
        from airside.diagnostics.reports import acknowledgement_report  # noqa: PLC0415

        with ExitStack() as stack:
            found = open_alone(settings, stack).acknowledge_loss()
            return acknowledgement_report(was_lost=found)


def _rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    running = "not running; below is the last state in the catalog"
    if report.get("silent"):
        running = f"process {report['pid']} does not answer; below is the last state in the catalog"
    elif report["running"]:
        uptime = duration_text(report.get("uptime_seconds"))
        running = f"running, process {report['pid']}" + (f", for {uptime}" if uptime else "")
    unbacked = f", {report['unbacked']} without an archive" if report.get("unbacked") else ""
    repositories = report.get("repositories", 0)
    among = "1 repository" if repositories == 1 else f"{repositories} repositories"
    states = [f"{count} {state}" for state, count in sorted(report["archives"].items())]
    rows = [
        ("agent", running),
        ("version", str(report.get("version", ""))),
        ("data", str(report.get("data", ""))),
        ("images", f"{report['images']} in {among}{unbacked}"),
        ("blobs", f"{report['blobs']}, {size_text(report['blob_bytes'])}"),
        ("archives", ", ".join(states) or "none"),
        ("verified", _scrub_text(report)),
    ]
    rows += [("UNPUBLISHED", text) for text in _unpublished_texts(report)]
    if report.get("lost_records"):
        rows.append(("RECORDS LOST", _lost_text(report["lost_records"])))
    if report.get("blobs_unknown"):
        rows.append(("unknown", _unknown_text(report)))
    if report.get("space"):
        rows.append(("disk", _space_text(report["space"])))
    if report["running"] and not report.get("silent"):
        rows.append(("registry", report.get("listen") or "not served"))
        rows += [("access", _access_text(report["access"]))] if report.get("access") else []
        rows += [("NO FALLBACK", text) for text in _fallback_texts(report.get("fallback"))]
        if report.get("read_through") in _THROUGH:
            rows.append(("read-through", _THROUGH[report["read_through"]]))
    if report.get("activity"):
        rows.append(("activity", _activity_text(report["activity"])))
    rows += [("runtime", _runtime_text(runtime)) for runtime in report.get("runtimes", ())]
    rows += [("directory", _directory_text(each)) for each in report.get("directories", ())]
    rows += [("importing", _importing_text(each)) for each in report.get("imports", ())]
    return rows


def _fallback_texts(fallback: dict[str, Any] | None) -> Iterator[str]:
    """Why no fallback server answers if the agent hangs."""
    if fallback and fallback["state"] == "failed":
        yield f"pulls hang if the agent hangs; the fallback server fails: {fallback['reason']}"


def _unpublished_texts(report: dict[str, Any]) -> Iterator[str]:
    """The images that a runtime lacks, each with reason and next try."""
    found = report.get("unpublished") or {"count": 0, "items": []}
    for each in found["items"][:_SHOWN_NAMES]:
        retry = f"; next try {time_text(each['next_try_at'])}" if each["next_try_at"] else ""
        yield (
            f"{each['reference']} is {each['state']} in {each['socket']}: {each['reason']}{retry}"
        )
    if found["count"] > _SHOWN_NAMES:
        yield f"and {found['count'] - _SHOWN_NAMES} more: run airside images"


def _lost_text(lost: dict[str, Any]) -> str:
    """The loss of records, what was restored, and how to end this line."""
    origin = lost["restored_from"] or "nothing"
    words = [f"{time_text(lost['at'])}: {lost['reason']}"]
    words += [f"{count_text(lost['names'], 'name')} restored from {origin}"]
    if lost["incomplete"]:
        names = ", ".join(lost["incomplete_names"][:_SHOWN_NAMES])
        more = ", …" if lost["incomplete"] > _SHOWN_NAMES else ""
        words += [f"left out, as blobs are lost or damaged: {names}{more}"]
    if lost["documents"]:
        found = count_text(lost["documents"], "manifest")
        words += [f"{found} found without a name, under recovered@sha256:…"]
    words += [f"set aside: {', '.join(lost['set_aside'])}"] if lost["set_aside"] else []
    return "; ".join([*words, "end this report with airside status --acknowledge"])


def _unknown_text(report: dict[str, Any]) -> str:
    blobs = count_text(report["blobs_unknown"], "blob")
    size = size_text(report["unknown_bytes"])
    return f"{blobs}, {size}, without a record: kept until airside gc --unknown"


def _activity_text(activity: dict[str, Any]) -> str:
    """The work under way, and the archives that are tried again later."""
    keys = ("settling", "queued", "importing", "indexing", "publishing")
    words = [f"{activity[key]} {key}" for key in keys if activity[key]] or ["idle"]
    words += [f"{activity['waiting']} waiting for a retry"] if activity["waiting"] else []
    return ", ".join(words)


def _space_text(space: dict[str, Any]) -> str:
    """The free space, and the consequence if it is low."""
    free = f"{size_text(space['free_bytes'])} free"
    if space["free_bytes"] < space["min_free_bytes"]:
        return f"{free}, less than min_free_bytes: imports wait for free space"
    if space["low"]:
        return f"{free}: earlier versions and images without an archive are deleted early"
    return free


def _scrub_text(report: dict[str, Any]) -> str:
    """The result of the last scrub, and the number of damaged blobs now."""
    found = report.get("scrub")
    wrong = sum(report.get(f"blobs_{state}", 0) for state in ("quarantined", "lost"))
    now = (
        f"; {count_text(wrong, 'blob')} damaged or lost now: run airside verify --repair"
        if wrong
        else ""
    )
    if not found:
        return f"not yet{now}"
    when = time_text(found["ended_at"])
    when = when or f"running since {time_text(found['started_at'])}"
    counts = [f"{found[key]} {key}" for key in ("wrong", "repaired", "lost") if found[key]]
    result = ", ".join(counts) or "no errors"
    looked = f"{count_text(found['blobs'], 'blob')}, {size_text(found['size_bytes'])}"
    return f"{when}, {looked}: {result}{now}"


def _access_text(access: dict[str, Any]) -> str:
    """TLS, logins and rights of the registry."""
    everybody = ", ".join(access["anonymous"]) or "nothing"
    words = ["TLS" if access["tls"] else "no TLS", f"without a login: {everybody}"]
    for key, name in (("users", "user"), ("tokens", "token")):
        words += [count_text(access[key], name)] if access[key] else []
    words += ["client certificates"] if access["certificates"] else []
    return ", ".join([*words, *(["read-only"] if access["read_only"] else [])])


_THROUGH = {
    "open": "serves images of containerd that came without a secret; not to that containerd itself",
    "true": "serves images that only containerd has; by tag not to that containerd itself",
    "digests": "serves images that only containerd has, by digest only",
    "self": "serves images that only containerd has, also to that containerd itself",
    "false": "off: images that only containerd has are not served",
}


def _runtime_text(runtime: dict[str, Any]) -> str:
    """A socket, its containerd, and the number of blobs by transfer method."""
    if not runtime["connected"]:
        return f"{runtime['socket']} (not connected: {runtime['reason']})"
    ways = [f"{count} {way}" for way, count in sorted(runtime["blobs"].items())]
    blobs = f", blobs: {', '.join(ways)}" if ways else ""
    why = f", streamed because {runtime['streams_because']}" if runtime["streams_because"] else ""
    copied = runtime.get("copies_because")
    why += f", copied because {copied}" if copied else ""
    applied = runtime.get("applies_because")
    why += f", containerd unpacks because {applied}" if applied else ""
    is_unit = runtime.get("layers_written_by") == "unit"
    why += ", layers are written by airside-layers@.service" if is_unit else ""
    unpacks = runtime["snapshotter"] if runtime["unpacks"] else "not unpacked"
    if runtime.get("other_agent"):
        return f"{runtime['socket']} (nothing is published: {runtime['reason']})"
    text = f"{runtime['socket']} (containerd {runtime['version']}, {unpacks}{blobs}{why})"
    return text + _foreign_text(runtime.get("foreign_names", 0))


def _foreign_text(foreign: int) -> str:
    """The names that another data directory published, and what to do with them."""
    if not foreign:
        return ""
    return (
        f"; keeps {count_text(foreign, 'name')} of another data directory: airside runtime release"
    )


def _directory_text(directory: dict[str, Any]) -> str:
    reason = f", {directory['reason']}" if directory.get("reason") else ""
    files = count_text(directory.get("files") or 0, "file")
    return f"{directory['path']} ({directory['mode']}{reason}, {files})"


def _importing_text(running: dict[str, Any]) -> str:
    done, total = running["done_bytes"], running["total_bytes"]
    rate = running.get("rate_bytes_per_second")
    share = f"{100 * done // total} % of {size_text(total)}" if total else size_text(done)
    return f"{running['path']}: {share}" + (f", {size_text(rate)}/s" if rate else "")
