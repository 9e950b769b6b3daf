"""Prints JSON, tables, sizes and times. Escapes texts from archives before a terminal sees them.

On a terminal rich draws the tables; it is imported only then. Elsewhere tables are aligned text: no
frames, nothing truncated, one row a line.
"""

import json
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TextIO

from airside.core.errors import UnavailableError
from airside.core.logs import printable
from airside.diagnostics.quantities import duration_text, size_text

__all__ = ["duration_text", "size_text"]

_STYLES = {
    "imported": "green",
    "partial": "yellow",
    "incomplete": "yellow",
    "rejected": "red",
    "failed": "red",
    "unreadable": "red",
    "removed": "dim",
    "ignored": "dim",
    "ok": "green",
    "warning": "yellow",
    "problem": "red",
}


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


def write_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
) -> None:
    """Prints rows under column titles. `right` names the right-aligned columns."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if is_terminal():
        write(_drawn(columns, cells, right))
    else:
        write(aligned([list(columns), *cells], [title in right for title in columns]))


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Returns the rows as text: columns padded to their widest cell, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> str:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - rich takes 60 ms: only for a terminal
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - not markup: texts come from archives

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().strip("\n")


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
