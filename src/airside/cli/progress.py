"""What is shown while an archive is read, and how Ctrl-C ends it."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import click

from airside.cli.output import clean, size_text
from airside.core.errors import StoppedError

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all); from any thread."""

_LINE_SECONDS = 10.0


@contextmanager
def shown_progress(title: str, *, quiet: bool) -> Iterator[Progress]:
    """A bar with bytes, rate and remaining time on a terminal; else a line now and then.

    All on standard error. `quiet`: no lines, a bar still.
    """
    if sys.stderr.isatty():
        with _bar(clean(title)) as progress:
            yield progress
    else:
        yield _ignore if quiet else _Lines(clean(title)).show


def _ignore(_done_bytes: int, _total_bytes: int) -> None:
    """Show nothing."""


class _Lines:
    """A line every ten seconds."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next = time.monotonic() + _LINE_SECONDS
        self._lock = threading.Lock()

    def show(self, done_bytes: int, total_bytes: int) -> None:
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + _LINE_SECONDS
            share = f" ({100 * done_bytes // total_bytes} %)" if total_bytes else ""
            text = f"{size_text(done_bytes)} of {size_text(total_bytes)}{share}"
            click.echo(f"{self._title}: {text}", err=True)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich import progress as rich  # noqa: PLC0415 - only for a terminal
    from rich.console import Console  # noqa: PLC0415

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with rich.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(title, total=None)

        def show(done_bytes: int, total_bytes: int) -> None:
            shown.update(task, completed=done_bytes, total=total_bytes or None)

        yield show


@dataclass(slots=True)
class Stopping:
    """Asked by byte loops, once per chunk, whether to stop."""

    signal_number: int = 0

    def __call__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stopped_by_signals() -> Iterator[Stopping]:
    """Let the first Ctrl-C or SIGTERM stop the work in good order, the second at once.

    The command then ends with 128 and the signal's number. Only in the main thread.
    """
    stopping = Stopping()

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopping():
            raise KeyboardInterrupt
        stopping.signal_number = number

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    except StoppedError as exc:
        if not stopping():
            raise
        click.echo(f"airside: {exc.message}", err=True)
        raise click.exceptions.Exit(128 + stopping.signal_number) from exc
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
