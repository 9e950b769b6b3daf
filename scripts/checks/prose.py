"""The prose of the repository: documents, and Python files for their strings and comments.

Code in backticks (`Span`) and blocks of shell commands are found here; others judge them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARKDOWN = ("*.md", "docs/**/*.md")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)*)`(?!`)")


@dataclass(frozen=True, slots=True)
class Text:
    """A document or a Python file."""

    file: str
    """The path below the root."""
    text: str

    def where(self, offset: int) -> str:
        """Returns `file:line` of a character of the text."""
        line = self.text.count("\n", 0, offset) + 1
        return f"{self.file}:{line}"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of code in prose, and where it stands."""

    where: str
    code: str


def documents(root: Path) -> list[Text]:
    """The Markdown documents for readers of the repository."""
    return _read(root, MARKDOWN)


def python_files(root: Path, *directories: str) -> list[Text]:
    """The Python files below some directories, without what protoc generates."""
    found = _read(root, [f"{directory}/**/*.py" for directory in directories])
    return [text for text in found if "/proto/" not in text.file]


def _read(root: Path, patterns: Iterable[str]) -> list[Text]:
    paths = sorted({path for pattern in patterns for path in root.glob(pattern)})
    return [Text(str(path.relative_to(root)), path.read_text()) for path in paths]


def inline_code(text: Text) -> Iterator[Span]:
    """Yields what stands in single backticks outside of fenced blocks, in one line each."""
    blank = _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text.text)
    for match in _CODE.finditer(blank):
        yield Span(text.where(match.start()), " ".join(match[1].split()))


def shell_lines(text: Text) -> Iterator[Span]:
    """Yields the commands of `console` blocks (after `$ `) and each line of `sh` blocks."""
    for where, line in _commands(text):
        yield Span(text.where(where), line)


def shell_blocks(text: Text) -> Iterator[Span]:
    """Yields each block of shell as one script: the lines of `sh`, the commands of `console`."""
    for block in _shells(text):
        if block[1] == "sh":
            yield Span(text.where(block.start()), block[2])
            continue
        lines = [re.sub(r"^(\$|#|>) ", "", line) for line in _typed(block[2])]
        yield Span(text.where(block.start()), "\n".join(lines) + "\n")


def _shells(text: Text) -> Iterator[re.Match[str]]:
    for block in _FENCE.finditer(text.text):
        if block[1] in {"console", "sh"}:
            yield block


def _commands(text: Text) -> Iterator[tuple[int, str]]:
    for block in _shells(text):
        body = block[2].replace("\\\n", "  ")
        for match in re.finditer(r"^.*$", body, re.MULTILINE):
            if block[1] == "sh":
                yield block.start(2) + match.start(), match[0]
            elif match[0].startswith(("$ ", "# ")):
                yield block.start(2) + match.start(), match[0][2:]


def _typed(body: str) -> Iterator[str]:
    """The lines of a console block that somebody types: prompts, and what continues one."""
    goes_on = False
    for line in body.splitlines():
        if goes_on or line.startswith(("$ ", "# ", "> ")):
            yield line
            goes_on = line.endswith("\\")
