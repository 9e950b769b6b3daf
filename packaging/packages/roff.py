"""Writes text as the man macros of groff read it (groff_man(7)). Pure."""

import re
from collections.abc import Iterable, Iterator

_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_CODE = re.compile(r"`([^`]+)`")


def escape(text: str) -> str:
    """Returns text of one line; characters outside of ASCII by their code."""
    found = "".join(
        _ESCAPES.get(char, char if ord(char) < 128 else f"\\[u{ord(char):04X}]") for char in text
    )
    return f"\\&{found}" if found.startswith(".") else found


def line(text: str) -> str:
    """Returns prose of one line: what is between backticks is bold."""
    parts = _CODE.split(" ".join(text.split()))
    marked = [f"\\fB{escape(p)}\\fR" if n % 2 else escape(p) for n, p in enumerate(parts)]
    found = "".join(marked)
    return f"\\&{found}" if found.startswith(".") else found


def paragraphs(text: str) -> Iterator[str]:
    r"""Yields the lines of a help text of click: `\b` begins a paragraph that is kept as it is."""
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if lines[0].strip() == "\b":
            yield from verbatim(lines[1:])
        else:
            yield ".PP"
            yield line(block)


def verbatim(lines: Iterable[str]) -> Iterator[str]:
    yield from (".PP", ".nf", ".RS")
    yield from (escape(each) or "\\&" for each in lines)
    yield from (".RE", ".fi")


def definition(term: str, text: str) -> Iterator[str]:
    """Yields a term in bold with its paragraph."""
    yield from (".TP", f"\\fB{escape(term)}\\fR", line(text) or "\\&")


def page(
    name: str, section: int, date: str, version: str, *, title: str, body: Iterable[str]
) -> str:
    """Returns a whole page. `date`: YYYY-MM-DD."""
    head = f'.TH "{escape(name.upper())}" {section} {escape(date)} "airside {version}" "Airside"'
    lines = [head, ".SH NAME", f"{escape(name)} \\- {escape(title)}", *body]
    return "\n".join(lines) + "\n"
