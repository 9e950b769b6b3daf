"""`airside watch`: what the agent does, live."""

import os
import select
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from airside.cli import output
from airside.cli.fetch_report import data_directory
from airside.cli.options import config_option, data_option, example, json_option
from airside.cli.output import clean, size_text, time_text, write, write_json_line
from airside.cli.watch_feed import Feed, Moment
from airside.cli.watch_screen import left_text, verdict_now

_LINE_SECONDS = 10.0
"""Between two lines about one import, where there is no screen."""


@click.command(epilog=example("airside watch", "airside watch --json | jq .verdict.sentence"))
@data_option
@config_option
@json_option
def watch(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Watch imports, images, runtimes, problems and events, live.

    On a terminal a screen, until q or Ctrl-C; elsewhere, or with --json, a line for each change.
    Waits for an agent that is not running, or is restarted.
    """
    directory = data_directory(config, data)
    if as_json:
        _print_lines(directory, _Json())
    elif output.is_terminal() and os.environ.get("TERM", "dumb") != "dumb":
        from airside.cli.watch_live import show_live  # noqa: PLC0415 - rich only for a screen

        show_live(directory)
    else:
        _print_lines(directory, _Text())


def _print_lines(data: Path, changes: "_Json | _Text") -> None:
    wakes, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    feed = Feed(data, lambda: _wake(wake))
    feed.start()
    while True:
        select.select([wakes], [], [])
        os.read(wakes, 4096)
        changes.print(feed.moment())


def _wake(descriptor: int) -> None:
    try:
        os.write(descriptor, b"x")
    except BlockingIOError:  # it is awake
        return


class _Changes:
    """What of a moment was not printed yet."""

    def __init__(self) -> None:
        self._last = -1
        self._before: Any = None

    def events(self, moment: Moment) -> Iterator[dict[str, Any]]:
        if moment.events and moment.events[-1]["id"] < self._last:
            self._last = -1  # another catalog: its numbers begin again
        for each in moment.events:
            if each["id"] > self._last:
                yield each
        if moment.events:
            self._last = moment.events[-1]["id"]

    def is_new(self, state: object) -> bool:
        before, self._before = self._before, state
        return bool(before != state)


class _Json(_Changes):
    """Prints a line for each event, and for each change of the status."""

    def print(self, moment: Moment) -> None:
        for each in self.events(moment):
            write_json_line({"schema": 1, "type": "event", "event": each})
        verdict = verdict_now(moment)
        status = None if moment.away else moment.status
        if not self.is_new((moment.away, _without_times(status))):
            return
        write_json_line(
            {
                "schema": 1,
                "type": "status",
                "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                "away": moment.away,
                "verdict": verdict.report() if verdict is not None else None,
                "status": status,
            }
        )


def _without_times(status: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the status without what changes with the time alone."""
    found = dict(status or {})
    found.pop("uptime_seconds", None)
    space = found.pop("space", None) or {}
    return found | {"low": space.get("low")}


class _Text(_Changes):
    """Prints the verdict when it changes, events, and imports every ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def print(self, moment: Moment) -> None:
        for each in self.events(moment):
            what = " ".join(filter(None, (each["reference"], each["path"])))
            self._line(time_text(each["at"]), each["kind"], what)
        verdict = verdict_now(moment)
        said = verdict.sentence if verdict is not None else moment.away
        if said and self.is_new(said):
            self._line(_now(), "status", said)
        imports = () if moment.away else (moment.status or {}).get("imports", ())
        now = time.monotonic()
        self._next = {
            each["path"]: self._next.get(each["path"], now + _LINE_SECONDS) for each in imports
        }
        for each in imports:
            if now >= self._next[each["path"]]:
                self._next[each["path"]] = now + _LINE_SECONDS
                self._line(_now(), "importing", progress_text(each, moment.rates))

    @staticmethod
    def _line(at: str, kind: str, what: str) -> None:
        write(f"{at}  {clean(kind):<10}  {clean(what)}".rstrip())


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")


def progress_text(running: dict[str, Any], rates: dict[str, float]) -> str:
    """Returns `PATH: 1.0 GB of 4.0 GB, 100.0 MB/s, 30 s left`."""
    done, total = running["done_bytes"], running["total_bytes"]
    rate = rates.get(running["path"], 0.0)
    words = [f"{size_text(done)} of {size_text(total)}" if total else size_text(done)]
    words += [f"{size_text(rate)}/s"] if rate else []
    words += filter(None, [left_text(done, total, rate)])
    return f"{running['path']}: {', '.join(words)}"
