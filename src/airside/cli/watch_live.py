"""The live screen of `airside watch`: keys, size, signals, and a clean terminal at the end.

The screen is drawn when something changed, at most twice a second, on the terminal's alternate
screen. Whatever ends the command, the terminal has its modes, its cursor and its contents again.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from airside.cli import terminal
from airside.cli.watch_feed import Feed
from airside.cli.watch_screen import Line, screen

_LEAST_SECONDS = 0.5
_CLOCK_SECONDS = 30.0
_QUIT = {b"q", b"Q", b"\x03", b"\x04"}
_STOP, _SIZE = signal.SIGTSTP, signal.SIGWINCH


class _EndedError(Exception):
    """A signal asks for the end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def show_live(data: Path) -> None:
    """Shows the screen until q, Ctrl-C or a signal. Raises KeyboardInterrupt, SystemExit."""
    wakes, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    feed = Feed(data, lambda: _write(wake))
    try:
        with _signals(wake):
            feed.start()
            while _show(feed, wakes):
                os.kill(os.getpid(), signal.SIGSTOP)  # goes on here after SIGCONT
    except _EndedError as exc:
        raise SystemExit(128 + exc.number) from None


def _show(feed: Feed, wakes: int) -> bool:
    """Returns True if the shell asked to stop for a while, False at the end."""
    console = Console(
        no_color=not terminal.has_color(),
        highlight=False,
        legacy_windows=False,
    )
    try:
        with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            _draw_all(feed, wakes, keys, live, console)
    except _PausedError:
        return True
    return False


def _draw_all(feed: Feed, wakes: int, keys: int | None, live: Live, console: Console) -> None:
    watched = [wakes] if keys is None else [wakes, keys]
    while True:
        width, height = console.size
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        lines = screen(feed.moment(), now, width, height)
        live.update(_text(lines), refresh=True)
        drawn = time.monotonic()
        ready, _, _ = select.select(watched, [], [], _CLOCK_SECONDS)
        if keys in ready and _is_quit(keys):
            return
        if wakes in ready:
            _drain(wakes)
            left = drawn + _LEAST_SECONDS - time.monotonic()
            if left > 0 and keys is not None and select.select([keys], [], [], left)[0]:
                if _is_quit(keys):
                    return
            elif left > 0 and keys is None:
                time.sleep(left)


def _text(lines: list[Line]) -> Text:
    text = Text(no_wrap=True, overflow="crop", end="")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for part, style in line:
            text.append(part, style or None)
    return text


def _is_quit(keys: int | None) -> bool:
    assert keys is not None
    return any(bytes([key]) in _QUIT for key in os.read(keys, 64) or b"q")


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def _write(descriptor: int) -> None:
    with suppress(BlockingIOError):
        os.write(descriptor, b"x")


class _PausedError(Exception):
    """Ctrl-Z: the terminal is the shell's for a while."""


@contextmanager
def _signals(wake: int) -> Iterator[None]:
    """Ends in order at SIGTERM and SIGHUP; wakes the screen when the size changes."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise _EndedError(number)

    def pause(_number: int, _frame: FrameType | None) -> None:
        raise _PausedError

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, _STOP: pause, _SIZE: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    descriptor = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _keys() -> Iterator[int | None]:
    """Reads keys one by one, unseen; None if standard input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
