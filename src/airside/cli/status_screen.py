"""What `airside status` shows: first whether all is well and what to do, then the details.

On a terminal it fits the screen: if the details are too many, each takes one line, then repeated
ones are counted, then the least important ones are left out. Elsewhere it is whole.
"""

from collections.abc import Iterator, Sequence

from airside.cli import output, terminal
from airside.cli.table import indented_rows, rows_text
from airside.cli.terminal import shortened, styled, wrapped
from airside.diagnostics.verdict import Concern, Verdict

Rows = Sequence[tuple[str, str]]

_STYLES = {
    "ok": "bold green",
    "busy": "bold green",
    "warning": "bold yellow",
    "problem": "bold red",
}
_SHOWN_CONCERNS = 3
_LEFT_OUT = "read-through", "version", "access", "blobs", "data", "verified", "registry", "activity"
"""Titles that go where there is no room, the first one first."""
_REST = "shortened to this screen: airside status | cat shows all"


def status_text(verdict: Verdict, rows: Rows) -> str:
    """Returns the text for standard output."""
    if not output.is_terminal():
        return "\n".join([*_head(verdict, None), "", rows_text(rows)])
    width, height = terminal.size()
    return "\n".join(fit_screen(_head(verdict, width), rows, width, height - 1))


def fit_screen(head: Sequence[str], rows: Rows, width: int, height: int) -> list[str]:
    """Returns at most `height` lines (the head in any case) of at most `width` cells."""
    shown = [(title, output.clean(text)) for title, text in rows]
    details = indented_rows(shown, width)
    room = max(height - len(head) - 1, 1)
    if len(details) <= room:
        return [*head, "", *details]
    room -= 1  # for the line that says so
    for fewer in _ever_fewer(shown):
        details = indented_rows(fewer, width, one_line=True)
        if len(details) <= room:
            break
    return [*head, "", *details[: max(room, 0)], styled(shortened(_REST, width), "dim")]


def _head(verdict: Verdict, width: int | None) -> list[str]:
    """Returns what is the matter and what to do, in order of importance."""
    concerns = [verdict.first, *verdict.others]
    shown = concerns if width is None else concerns[:_SHOWN_CONCERNS]
    lines = [line for each in shown for line in _concern_lines(each, width)]
    if len(shown) < len(concerns):
        lines += wrapped(
            f"and {len(concerns) - len(shown)} more: airside status | cat", width or 80
        )
    return lines


def _concern_lines(concern: Concern, width: int | None) -> list[str]:
    found = output.clean(concern.found)
    advice = f"  → {output.clean(concern.advice)}" if concern.advice else ""
    style = _STYLES[concern.severity]
    if width is None:
        return [styled(found, style), *([advice] if advice else [])]
    lines = [styled(line, style) for line in wrapped(found, width)]
    return lines + (wrapped(advice, width) if advice else [])


def _ever_fewer(rows: Rows) -> Iterator[Rows]:
    """Yields the rows, then fewer and fewer of them."""
    yield rows
    rows = _counted(rows)
    yield rows
    for title in _LEFT_OUT:
        rows = [row for row in rows if row[0] != title]
        yield rows


def _counted(rows: Rows) -> list[tuple[str, str]]:
    """Returns the rows with one of each title, and how many more there are."""
    more: dict[str, int] = {}
    for title, _ in rows:
        more[title] = more.get(title, -1) + 1
    found: dict[str, str] = {}
    for title, text in rows:
        found.setdefault(title, f"(1 of {more[title] + 1}) {text}" if more[title] else text)
    return list(found.items())
