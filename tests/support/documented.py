"""What documents show to readers and tests run: the console blocks below `<!-- try -->`.

A block is a list of commands, each with the lines that the document says it prints. `…` stands for
anything, spaces for any space, and numbers for any number; what is not shown may be printed too.
A comment `# exit code 1` says how a command ends that does not end with 0.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^<!-- try -->\n+```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"\s+# exit code (\d+).*")
_REPEATABLE = re.compile(
    r"(airside (images|archives|status|explain|inspect|events|doctor|gc --dry-run)|ctr .*\brun)\b"
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a document."""

    words: str
    code: int
    shown: tuple[str, ...]
    """The lines that it prints, as the document has them."""

    @property
    def is_repeatable(self) -> bool:
        """True if it may be run again until it prints what the document shows."""
        return bool(self.shown) and _REPEATABLE.match(self.words) is not None

    def missing(self, printed: str) -> list[str]:
        """The shown lines that were not printed."""
        return [line for line in self.shown if not re.search(_pattern(line), printed, re.MULTILINE)]


def commands(document: Path) -> Iterator[Command]:
    """Yields the commands of a document that are to be run, in their order."""
    for match in _BLOCK.finditer(document.read_text(encoding="utf-8")):
        yield from _commands(match[1])


def _commands(body: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        lines = part.replace("\\\n", " ").splitlines()
        words, code = lines[0].strip(), 0
        if match := _CODE.search(words):
            words, code = words[: match.start()], int(match[1])
        yield Command(words, code, tuple(line.strip() for line in lines[1:] if line.strip()))


def _pattern(line: str) -> str:
    """A line as a regular expression."""
    pieces = re.split(r"(…|\s+|\d+)", line)
    known = {"…": ".*", "": ""}
    return "".join(
        known[piece]
        if piece in known
        else r"\s+"
        if piece.isspace()
        else r"\d+"
        if piece.isdigit()
        else re.escape(piece)
        for piece in pieces
    )
