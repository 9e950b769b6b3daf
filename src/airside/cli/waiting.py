"""Says that a command still works, where there are no bytes to count."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from airside.cli.output import clean, duration_text
from airside.cli.terminal import shortened, size

_FIRST_SECONDS = 1.0
_TICK_SECONDS = 1.0
_LINE_SECONDS = 10.0


@contextmanager
def shown_waiting(title: str, *, quiet: bool = False) -> Iterator[None]:
    """Shows, after a second, for how long the work goes on, on a terminal; else every ten seconds.

    Writes to standard error, and erases it from a terminal. `quiet` omits the lines.
    """
    on_terminal = sys.stderr.isatty()
    if quiet and not on_terminal:
        yield
        return
    done = threading.Event()
    show = _ticks if on_terminal else _lines
    shown = threading.Thread(target=show, args=(clean(title), done), name="waiting", daemon=True)
    shown.start()
    try:
        yield
    finally:
        done.set()
        shown.join()


def _ticks(title: str, done: threading.Event) -> None:
    began, pause, was_shown = time.monotonic(), _FIRST_SECONDS, False
    while not done.wait(pause):
        pause, was_shown = _TICK_SECONDS, True
        text = f"{title}: {duration_text(float(int(time.monotonic() - began)))} …"
        _write(f"\r{shortened(text, size()[0] - 1)}\x1b[K")
    if was_shown:
        _write("\r\x1b[K")


def _lines(title: str, done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(_LINE_SECONDS):
        _write(f"{title}: {duration_text(float(int(time.monotonic() - began)))}\n")


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # nobody reads it
        return
