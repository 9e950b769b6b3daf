"""Tables: fitted into the width of a terminal, complete and plain elsewhere.

On a terminal the widest columns shrink first and their cells are broken over lines. What still has
no room: the columns that a command calls optional are left out, in its order, and named below. If
that is not enough, each row becomes a few lines of its own, with all columns. In a pipe or a file
there is one line a row, whatever its width.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest

import click

from airside.cli import output, terminal
from airside.cli.terminal import cell_width, padded, shortened, styled, wrapped

_GAP = 2
_EASY_CELLS = 20
"""Optional columns are left out before the others get narrower than this."""
_LEAST_CELLS = 9
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

Row = Sequence[str]


def write_table(
    columns: Row,
    rows: Sequence[Row],
    *,
    right: Collection[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Prints rows under column titles.

    `right` names the right-aligned columns, `optional` those to leave out on a narrow terminal, the
    first one first.
    """
    cells = [[output.clean(cell) for cell in row] for row in rows]
    if not output.is_terminal():
        output.write("\n".join(_plain(columns, cells, [title in right for title in columns])))
        return
    width = terminal.size()[0]
    lines, left_out = fitted(columns, cells, width, right=right, optional=optional)
    output.write("\n".join(lines))
    if left_out:
        text = f"not shown at this width: {', '.join(left_out)}"
        click.echo("\n".join(wrapped(text, width)), err=True)


def rows_text(rows: Sequence[tuple[str, str]]) -> str:
    """Returns titles and texts in two columns; on a terminal long texts go on below themselves."""
    cells = [(output.clean(title), output.clean(text)) for title, text in rows]
    if output.is_terminal():
        return "\n".join(indented_rows(cells, terminal.size()[0]))
    return aligned(cells, (False, False))


def indented_rows(
    rows: Sequence[tuple[str, str]], width: int, *, one_line: bool = False
) -> list[str]:
    """Returns titles and texts as lines of at most `width` cells.

    A text that is longer goes on below itself; `one_line`: it is cut.
    """
    first = max((cell_width(title) for title, _ in rows), default=0) + _GAP
    room = max(width - first, _LEAST_CELLS)
    lines = []
    for title, text in rows:
        parts = [shortened(text, room)] if one_line else wrapped(text, room)
        lines += [
            (padded("" if number else title, first) + part).rstrip()
            for number, part in enumerate(parts)
        ]
    return lines


def aligned(rows: Sequence[Row], right: Sequence[bool]) -> str:
    """Returns the rows as text: columns padded to their widest cell, two spaces apart."""
    widths = [max(map(cell_width, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            padded(cell, width, to_right=to_right)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _plain(columns: Row, rows: Sequence[Row], to_right: list[bool]) -> Iterator[str]:
    """Yields the lines of the whole table, coloured only with `--color always`."""
    widths = [max(map(cell_width, column)) for column in zip(columns, *rows, strict=True)]
    yield styled(_line(columns, widths, to_right), "bold")
    for row in rows:
        yield _line(row, widths, to_right, [_STYLES.get(cell, "") for cell in row])


def fitted(
    columns: Row,
    rows: Sequence[Row],
    width: int,
    *,
    right: Collection[str] = (),
    optional: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Returns the lines of a table in `width` cells, and the titles of columns left out."""
    natural = [max(map(cell_width, column)) for column in zip(columns, *rows, strict=True)]
    least = [
        wide if title in right else min(wide, max(cell_width(title), _LEAST_CELLS))
        for title, wide in zip(columns, natural, strict=True)
    ]
    kept, left_out = list(range(len(columns))), []
    for title in (each for each in optional if each in columns):
        if _sum(min(natural[n], max(least[n], _EASY_CELLS)) for n in kept) <= width:
            break
        kept.remove(columns.index(title))
        left_out.append(title)
    if _sum(least[n] for n in kept) > width:
        return list(_stacked(columns, rows, width)), []
    widths = _shrunk([natural[n] for n in kept], [least[n] for n in kept], width)
    to_right = [columns[n] in right for n in kept]
    lines = [styled(_line([columns[n] for n in kept], widths, to_right), "bold")]
    lines.append(styled("  ".join("─" * each for each in widths), "dim"))
    for row in rows:
        lines += _row_lines([row[n] for n in kept], widths, to_right)
    return lines, left_out


def _sum(widths: Iterator[int]) -> int:
    found = list(widths)
    return sum(found) + _GAP * (len(found) - 1)


def _shrunk(natural: list[int], least: list[int], width: int) -> list[int]:
    """Returns the widths, of which the widest were cut so that all fit."""
    widths = list(natural)
    while _sum(iter(widths)) > width:
        able = [n for n in range(len(widths)) if widths[n] > least[n]]
        widest = max(able, key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


def _row_lines(cells: Row, widths: list[int], to_right: list[bool]) -> list[str]:
    """Returns a row; its broken cells go on in the lines below."""
    parts = [wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    styles = [_STYLES.get(cell, "") for cell in cells]
    return [_line(line, widths, to_right, styles) for line in zip_longest(*parts, fillvalue="")]


def _line(cells: Row, widths: list[int], to_right: list[bool], styles: Sequence[str] = ()) -> str:
    last = len(cells) - 1
    shown = []
    for number, cell in enumerate(cells):
        at_end = number == last and not to_right[number]
        text = cell if at_end else padded(cell, widths[number], to_right=to_right[number])
        shown.append(styled(text, styles[number]) if styles and cell else text)
    return "  ".join(shown).rstrip()


def _stacked(columns: Row, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yields each row as lines of title and cell, an empty line between rows."""
    for number, row in enumerate(rows):
        if number:
            yield ""
        for title, cell in zip(columns, row, strict=True):
            if not cell:
                continue
            parts = wrapped(cell, max(width - 2, 1))
            style = _STYLES.get(cell, "")
            if title and cell_width(title) + _GAP + cell_width(cell) <= width:
                yield f"{styled(title, 'bold')}  {styled(cell, style)}"
                continue
            yield from wrapped(title, width) if title else ()
            yield from (f"  {styled(part, style)}" for part in parts)
