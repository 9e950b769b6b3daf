"""Prints JSON, sizes and times. Escapes texts from archives before a terminal sees them.

`airside.cli.table` draws tables.
"""

import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from typing import TextIO

from airside.core.errors import UnavailableError
from airside.core.logs import printable
from airside.diagnostics.quantities import duration_text, size_text

__all__ = ["duration_text", "size_text"]


class OutputClosedError(Exception):
    """The reader of our output closed it. Ends the command without a message."""


def is_terminal() -> bool:
    return sys.stdout.isatty()


def escape_unprintable_output() -> None:
    """Escapes characters that the terminal's encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def drop_output(*streams: TextIO) -> None:
    """Redirects the streams to /dev/null, so that flushing buffers at exit raises nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for stream in streams:
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def write(text: str) -> None:
    """Prints one or more lines. Raises OutputClosedError, UnavailableError."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError as exc:  # not passed on: click would end with 1
        raise OutputClosedError from exc
    except OSError as exc:
        drop_output(sys.stdout)
        raise UnavailableError(f"cannot write the output: {exc.strerror}") from exc


def write_json(value: object) -> None:
    write(json.dumps(value, indent=2))


def write_json_line(value: object) -> None:
    write(json.dumps(value, separators=(",", ":")))


def clean(text: object) -> str:
    """Returns the text on one line, with terminal control characters as visible escapes."""
    return printable(str(text))


def time_text(value: str | None) -> str:
    """Returns a report's RFC 3339 time in the local time zone."""
    if not value:
        return ""
    try:
        return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return value


def count_text(count: int, one: str) -> str:
    """Returns `1 image` or `3 images`."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
