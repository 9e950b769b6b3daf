"""`airside status`, `images`, `archives` and `events`: ask the agent, else read the catalog."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.options import (
    config_option,
    data_option,
    effective_settings,
    example,
    json_option,
)
from airside.cli.output import (
    aligned,
    clean,
    count_text,
    duration_text,
    is_terminal,
    size_text,
    time_text,
    write,
    write_json,
    write_json_line,
    write_table,
)
from airside.core.errors import UnavailableError

_SHORT_DIGEST = len("sha256:") + 12
Show = Callable[[dict[str, Any]], None]


def _data(config: Path | None, data: Path | None) -> Path:
    return effective_settings(config, data=data).settings.data


def ask(data: Path, name: str, **query: Any) -> dict[str, Any]:
    """The report of this name, from the agent or, where none runs, from the catalog."""
    try:
        return ControlClient(data).get(f"/v1/{name}", query)
    except NoAgentError:
        from airside.cli import offline  # noqa: PLC0415 - SQLite and the rest only without agent

        return offline.read_catalog(data, name, query)


def _print(report: dict[str, Any], show: Show, *, as_json: bool) -> None:
    if as_json:
        write_json(report)
    else:
        show(report)


@click.command(epilog=example("airside status", "airside status --json | jq .archives"))
@data_option
@config_option
@json_option
def status(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show whether the agent runs and what it holds.

    Without an agent, this is what the catalog recorded last.
    """
    _print(ask(_data(config, data), "status"), _show_status, as_json=as_json)


def _show_status(report: dict[str, Any]) -> None:
    rows = [(title, clean(text)) for title, text in _status_rows(report)]
    write(aligned(rows, (False, False)))


def _status_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
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


@click.command(epilog=example("airside images", "airside images --json | jq -r .items[].reference"))
@click.option("--history", is_flag=True, help="Show the versions that are kept of each tag.")
@data_option
@config_option
@json_option
def images(data: Path | None, config: Path | None, *, history: bool, as_json: bool) -> None:
    """List the images that can be pulled, and the archives they come from."""
    report = ask(_data(config, data), "images", **({"history": 1} if history else {}))
    _print(report, _show_history if history else _show_images, as_json=as_json)


def _show_images(report: dict[str, Any]) -> None:
    if not report["items"]:
        click.echo("no images yet", err=True)
        return
    columns = ("REFERENCE", "DIGEST", "PLATFORMS", "SIZE", "FROM")
    write_table(columns, [_image_row(item) for item in report["items"]], right=("SIZE",))


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


def _image_row(item: dict[str, Any]) -> tuple[str, ...]:
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
        said = "pulled through from" if item["source"] == "peer" else "push by"
        origin = f"{said} {item['origin']}"
    if item["mixed"]:
        behind = [part["platform"] for part in item["parts"] if part["behind"]]
        origin += f" (mixed versions: {', '.join(behind)} is older)"
    if item.get("unbacked_since"):
        origin = f"unbacked since {time_text(item['unbacked_since'])}"
    platforms = item["artifact_type"] or ", ".join(item["platforms"])
    return (reference, digest, platforms, size_text(item["size_bytes"]), origin)


@click.command(epilog=example("airside archives", "airside archives --json"))
@data_option
@config_option
@json_option
def archives(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the archives, what became of each, and why."""
    _print(ask(_data(config, data), "archives"), _show_archives, as_json=as_json)


def _show_archives(report: dict[str, Any]) -> None:
    if not report["items"]:
        click.echo("no archives yet", err=True)
        return
    columns = ("PATH", "STATE", "FORMAT", "SIZE", "IMAGES", "IMPORTED", "REASON")
    rows = [_archive_row(item) for item in report["items"]]
    write_table(columns, rows, right=("SIZE", "IMAGES"))


def _archive_row(item: dict[str, Any]) -> tuple[str, ...]:
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


@click.command(epilog=example("airside events --limit 20", "airside events --follow --json"))
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(0, 1000),
    default=100,
    show_default=True,
    help="Show at most so many of the newest events.",
)
@data_option
@config_option
@json_option
def events(
    data: Path | None, config: Path | None, *, follow: bool, limit: int, as_json: bool
) -> None:
    """Show what happened, oldest first, or follow what happens.

    With --follow --json, each line is one event.
    """
    directory = _data(config, data)
    if follow:
        _follow(directory, limit, as_json=as_json)
    else:
        _print(ask(directory, "events", limit=limit), _show_events, as_json=as_json)


def _show_events(report: dict[str, Any]) -> None:
    if not report["items"]:
        click.echo("no events yet", err=True)
        return
    columns = ("ID", "TIME", "EVENT", "WHAT", "DETAIL")
    write_table(columns, [_event_row(item) for item in report["items"]], right=("ID",))


def _event_row(item: dict[str, Any]) -> tuple[str, ...]:
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
        _event_line(item, as_json=as_json)
    for item in client.iter_lines("GET", "/v1/events", {"follow": 1, "after": last}):
        if item["id"] > last:
            last = item["id"]
            _event_line(item, as_json=as_json)
    raise UnavailableError("the agent ended the stream of events: it was stopped")


def _event_line(item: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json_line(item)
    else:
        _, time, kind, what, detail = map(clean, _event_row(item))
        write(f"{time}  {kind:<10}  {what}  {detail}".rstrip())
