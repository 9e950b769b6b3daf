"""`airside status`: whether the agent runs, and what it serves."""

from pathlib import Path
from typing import Any

import click

from airside.cli.fetch_report import data_directory, fetch_report, print_report
from airside.cli.options import config_option, data_option, example, json_option
from airside.cli.output import (
    aligned,
    clean,
    count_text,
    duration_text,
    size_text,
    time_text,
    write,
)


@click.command(epilog=example("airside status", "airside status --json | jq .archives"))
@data_option
@config_option
@json_option
def status(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show whether the agent runs and what it holds.

    Without an agent, this is what the catalog recorded last.
    """
    print_report(fetch_report(data_directory(config, data), "status"), _show, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    rows = [(title, clean(text)) for title, text in _rows(report)]
    write(aligned(rows, (False, False)))


def _rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    running = "not running: this is what the catalog recorded last"
    if report["running"]:
        uptime = duration_text(report.get("uptime_seconds"))
        running = f"running, process {report['pid']}" + (f", for {uptime}" if uptime else "")
    unbacked = f", {report['unbacked']} without their archive" if report.get("unbacked") else ""
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
    if report.get("space"):
        rows.append(("disk", _space_text(report["space"])))
    if report["running"]:
        rows.append(("registry", report.get("listen") or "not served"))
        rows += [("access", _access_text(report["access"]))] if report.get("access") else []
        if report.get("read_through") in _THROUGH:
            rows.append(("read-through", _THROUGH[report["read_through"]]))
    rows += [("runtime", _runtime_text(runtime)) for runtime in report.get("runtimes", ())]
    rows += [("directory", _directory_text(each)) for each in report.get("directories", ())]
    rows += [("importing", _importing_text(each)) for each in report.get("imports", ())]
    return rows


def _space_text(space: dict[str, Any]) -> str:
    """What is free, and what is done about it if that is little."""
    free = f"{size_text(space['free_bytes'])} free"
    if space["free_bytes"] < space["min_free_bytes"]:
        return f"{free}, less than min_free_bytes: imports wait for space"
    if space["low"]:
        return f"{free}: earlier versions and images without their archive are collected"
    return free


def _scrub_text(report: dict[str, Any]) -> str:
    """The last pass over the store, and what is wrong now."""
    found = report.get("scrub")
    wrong = sum(report.get(f"blobs_{state}", 0) for state in ("quarantined", "lost"))
    now = (
        f"; {count_text(wrong, 'blob')} wrong or lost now: airside verify --repair" if wrong else ""
    )
    if not found:
        return f"not yet{now}"
    when = time_text(found["ended_at"])
    when = when or f"under way since {time_text(found['started_at'])}"
    told = [f"{found[key]} {key}" for key in ("wrong", "repaired", "lost") if found[key]]
    result = ", ".join(told) or "all right"
    looked = f"{count_text(found['blobs'], 'blob')}, {size_text(found['size_bytes'])}"
    return f"{when}, {looked}: {result}{now}"


def _access_text(access: dict[str, Any]) -> str:
    """How the registry is secured."""
    everybody = ", ".join(access["anonymous"]) or "nothing"
    words = ["TLS" if access["tls"] else "no TLS", f"without a login: {everybody}"]
    for key, name in (("users", "user"), ("tokens", "token")):
        words += [count_text(access[key], name)] if access[key] else []
    words += ["client certificates"] if access["certificates"] else []
    return ", ".join([*words, *(["read-only"] if access["read_only"] else [])])


_THROUGH = {
    "true": "what only containerd has is served, by tag not to that containerd itself",
    "digests": "what only containerd has is served by digest",
    "self": "what only containerd has is served, to that containerd itself too",
    "false": "off: what only containerd has is not served",
}


def _runtime_text(runtime: dict[str, Any]) -> str:
    """A socket, what is there, and how blobs go into it."""
    if not runtime["connected"]:
        return f"{runtime['socket']} (not connected: {runtime['reason']})"
    ways = [f"{count} {way}" for way, count in sorted(runtime["blobs"].items())]
    blobs = f", blobs: {', '.join(ways)}" if ways else ""
    why = f", sent because {runtime['streams_because']}" if runtime["streams_because"] else ""
    unpacks = runtime["snapshotter"] if runtime["unpacks"] else "not unpacked"
    return f"{runtime['socket']} (containerd {runtime['version']}, {unpacks}{blobs}{why})"


def _directory_text(directory: dict[str, Any]) -> str:
    reason = f", {directory['reason']}" if directory.get("reason") else ""
    files = count_text(directory.get("files") or 0, "file")
    return f"{directory['path']} ({directory['mode']}{reason}, {files})"


def _importing_text(running: dict[str, Any]) -> str:
    done, total = running["done_bytes"], running["total_bytes"]
    rate = running.get("rate_bytes_per_second")
    share = f"{100 * done // total} % of {size_text(total)}" if total else size_text(done)
    return f"{running['path']}: {share}" + (f", {size_text(rate)}/s" if rate else "")
