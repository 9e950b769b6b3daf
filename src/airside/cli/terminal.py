"""The terminal that standard output is: its width, its colours, and how wide a text is on it.

Texts here have no control characters (`output.clean`). A character takes no, one or two cells, as
Unicode's East Asian Width has it: names in Chinese and emoji stay aligned.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Literal
from unicodedata import category, east_asian_width

ColorMode = Literal["auto", "always", "never"]
_BREAKS = " /,:@-_="
"""A line is broken after one of these, if one is in its second half."""
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(slots=True)
class _Choice:
    mode: ColorMode = "auto"


_choice = _Choice()


def choose_color(mode: ColorMode) -> None:
    """Sets what `--color` says, for this process."""
    _choice.mode = mode


def has_color() -> bool:
    """Returns whether standard output is coloured.

    `auto`: on a terminal that is not dumb, unless NO_COLOR is set (no-color.org).
    """
    if _choice.mode != "auto":
        return _choice.mode == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not _is_dumb()


def _is_dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


def size() -> tuple[int, int]:
    """Returns the columns and lines of the terminal; 80 and 24 where they are not known."""
    found = shutil.get_terminal_size()
    return max(found.columns, 1), max(found.lines, 1)


def styled(text: str, style: str) -> str:
    """Returns the text in a style of `bold dim red green yellow cyan`, if there is colour."""
    if not style or not text or not has_color():
        return text
    codes = ";".join(_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def cell_width(text: str) -> int:
    """Returns the number of cells that the text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if character < "\x7f":
        return 1
    if category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def padded(text: str, width: int, *, to_right: bool = False) -> str:
    """Returns the text with spaces to fill `width` cells; longer ones unchanged."""
    gap = " " * (width - cell_width(text))
    return gap + text if to_right else text + gap


def shortened(text: str, width: int) -> str:
    """Returns the text, or its beginning with `…`, in at most `width` cells."""
    if cell_width(text) <= width:
        return text
    return _head(text, width - 1) + "…" if width > 0 else ""


def _head(text: str, width: int) -> str:
    """Returns the longest beginning of at most `width` cells."""
    taken = 0
    for number, character in enumerate(text):
        taken += _cells(character)
        if taken > width:
            return text[:number]
    return text


def wrapped(text: str, width: int) -> list[str]:
    """Returns the text in lines of at most `width` cells; nothing but blanks at breaks is lost."""
    lines = []
    while cell_width(text) > width:
        head = _head(text, width) or text[0]  # a wide character in a single cell
        if text[len(head)] != " ":
            broken = max(map(head.rfind, _BREAKS)) + 1
            head = head[:broken] if broken > len(head) // 2 else head
        lines.append(head.rstrip())
        text = text[len(head) :].lstrip()
    return [*lines, text] if text or not lines else lines
