"""Shows progress of long commands, and stops them on Ctrl-C."""

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
"""Called with (bytes done, bytes in total); from any thread."""

_LINE_SECONDS = 10.0


@contextmanager
def shown_progress(title: str, *, quiet: bool) -> Iterator[Progress]:
    """Shows a bar with bytes, rate and remaining time on a terminal, else a line every 10 s.

    Writes to standard error. `quiet` omits the lines, not the bar.
    """
    if sys.stderr.isatty():
        with _bar(clean(title)) as progress:
            yield progress
    else:
        yield _ignore if quiet else _Lines(clean(title)).show


def _ignore(_done_bytes: int, _total_bytes: int) -> None:
    """Shows nothing."""


class _Lines:
    """Prints a line every ten seconds. Thread-safe."""

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
    """True after a signal. Byte loops call it once per chunk."""

    signal_number: int = 0

    def __call__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stopped_by_signals() -> Iterator[Stopping]:
    """Stops the work in order at the first Ctrl-C or SIGTERM, at once at the second.

    The command then exits with 128 plus the signal number. Main thread only.
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
