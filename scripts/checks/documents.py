"""Documents and docstrings name only what exists, and cite no document outside the repository.

Checked are: modules (`airside.x.y`), paths, links with their anchors, `make` targets, numbers of
ADRs, and each `airside` command line, parsed with the commands of `airside.cli`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from checks import commands
from checks.names import Names, dotted_names, names_of
from checks.prose import Span, Text, documents, inline_code, python_files, shell_lines

CODE = ("src", "tests", "bench", "fuzz", "scripts")
FILE_KINDS = (".py", ".md", ".sh")
"""A bare file name of another kind may be that of an operator's file."""
OUTSIDE = re.compile(
    r"\bdesign (?:section )?\d+\.\d+|\bfield notes?\b|(?<![\w/.-])/work/|\bshared/[\w-]+\.md"
)
"""What looks like a document that a reader of the repository does not have."""

IMAGE_HOST = "airside.internal"
"""The registry in the name of our own image: no module."""
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_MAKE = re.compile(r"make ([a-z][a-z-]*)(?: .*)?")
_ADR = re.compile(r"\bADRs? (\d{4})")
_BARE_PATH = re.compile(
    r"(?<![\w./-])(?:docs|tests|scripts|bench|fuzz|src|packaging)/[\w./-]+\.(?:md|py|sh|toml)\b"
)
_PATH = re.compile(r"[\w.*{},-]+(?:/[\w.*{},-]+)*/?")
_ALLOWED_OUTSIDE = ("scripts/checks/", "tests/unit/house/")


def problems(root: Path) -> list[str]:
    """Returns a line for each thing that a document names and that does not exist."""
    names, texts, code = names_of(root), documents(root), python_files(root, "src")
    found: list[str] = []
    for text in [*texts, *code]:
        found += wrong_names(text, names)
        found += wrong_commands(text)
        found += wrong_adrs(text, root)
    tree = Tree(root)
    for text in [*texts, *code]:
        found += wrong_paths(text, tree)
        found += wrong_targets(text, root)
    for text in texts:
        found += wrong_links(text, root)
    for text in [*texts, *python_files(root, *CODE)]:
        found += outside(text)
    return [*found, *wrong_synopses(root)]


def wrong_names(text: Text, names: Names) -> Iterator[str]:
    """Modules, and what is in them, that do not exist; `room.module` in backticks is one too."""
    for offset, name in dotted_names(text.text):
        if name not in names and name != IMAGE_HOST:
            yield f"{text.where(offset)}: {name} does not exist"
    for span in inline_code(text):
        if names.is_of_room(span.code) and f"airside.{span.code}" not in names:
            yield f"{span.where}: {span.code} does not exist"


def wrong_commands(text: Text) -> Iterator[str]:
    """Command lines that `airside` refuses."""
    for span in shell_lines(text):
        for words in commands.command_lines(span.code):
            yield from _refused(span, words, whole=True)
    for span in inline_code(text):
        if span.code.startswith("airside "):
            yield from _refused(span, commands.synopsis_words(span.code), whole=False)


def _refused(span: Span, words: list[str], *, whole: bool) -> Iterator[str]:
    if complaint := commands.complaint(words, whole=whole):
        yield f"{span.where}: `airside {' '.join(words)}`: {complaint}"


def wrong_synopses(root: Path) -> Iterator[str]:
    """Commands of which `docs/cli.md` has no synopsis with all their options."""
    text = next(text for text in documents(root) if text.file == "docs/cli.md")
    synopses = [commands.synopsis_words(span.code) for span in inline_code(text)]
    for name, options in commands.commands().items():
        path = name.split()[1:]
        best = max(
            (set(words) & options for words in synopses if words[: len(path)] == path),
            key=len,
            default=None,
        )
        if best is None:
            yield f"docs/cli.md: no synopsis of `{name}`"
        elif missing := options - best:
            yield f"docs/cli.md: the synopsis of `{name}` lacks {', '.join(sorted(missing))}"


def wrong_adrs(text: Text, root: Path) -> Iterator[str]:
    """Numbers of decisions without a page in `docs/adr`."""
    for match in _ADR.finditer(text.text):
        if not any((root / "docs/adr").glob(f"{match[1]}-*.md")):
            yield f"{text.where(match.start())}: no ADR {match[1]} in docs/adr"


def wrong_targets(text: Text, root: Path) -> Iterator[str]:
    """`make` targets that the Makefile lacks."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(), re.MULTILINE))
    for span in [*inline_code(text), *shell_lines(text)]:
        match = _MAKE.fullmatch(span.code)
        if match and match[1] not in targets:
            yield f"{span.where}: the Makefile has no target {match[1]}"


class Tree:
    """The files of the repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tops = {path.name for path in root.iterdir() if path.is_dir()} - {
            ".git",
            ".venv-docs",
            "build",
            "dist",
        }
        self._package = root / "src" / "airside"
        self._names = {
            path.name
            for top in (*self._tops - {".venv", "build", "dist"}, "")
            for path in ((root / top).rglob("*") if top else root.iterdir())
        }

    def lacks(self, path: str, beside: Path) -> bool:
        """True if `path` looks like one of the repository, and names no file or directory there."""
        first, slash, _ = path.partition("/")
        if not slash:
            return path.endswith(FILE_KINDS) and path not in self._names
        is_ours = first in self._tops or (
            (self._package / first).is_dir() and path.endswith(FILE_KINDS)
        )
        return is_ours and not any(
            next(base.glob(pattern), None)
            for base in (self.root, self._package, beside)
            for pattern in _braces(path.rstrip("/"))
        )


def _braces(path: str) -> list[str]:
    """`a/{b,c}` as `a/b` and `a/c`."""
    match = re.search(r"\{([^{}]*)\}", path)
    if match is None:
        return [path]
    return [
        whole
        for part in match[1].split(",")
        for whole in _braces(path[: match.start()] + part + path[match.end() :])
    ]


def wrong_paths(text: Text, tree: Tree) -> Iterator[str]:
    """Paths of this repository without a file: in backticks, and plain ones such as docs/x.md."""
    beside = (tree.root / text.file).parent
    for span in inline_code(text):
        for word in span.code.split():
            if _PATH.fullmatch(word) and tree.lacks(word, beside):
                yield f"{span.where}: no file {word}"
    for match in _BARE_PATH.finditer(text.text):
        if not text.text[: match.start()].endswith("`") and tree.lacks(match[0], beside):
            yield f"{text.where(match.start())}: no file {match[0]}"


def wrong_links(text: Text, root: Path) -> Iterator[str]:
    """Links to files and headings that do not exist."""
    for match in _LINK.finditer(text.text):
        target, _, anchor = match[1].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (root / text.file).parent / target if target else root / text.file
        if not path.exists():
            yield f"{text.where(match.start())}: no file {target}"
        elif anchor and anchor not in _anchors(path):
            yield f"{text.where(match.start())}: no heading #{anchor} in {path.name}"


def _anchors(path: Path) -> set[str]:
    """The anchors that a forge gives to the headings of a Markdown file."""
    headings = re.findall(r"^#+ +(.*)$", path.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def outside(text: Text) -> Iterator[str]:
    """Citations of documents that are not in the repository."""
    if text.file.startswith(_ALLOWED_OUTSIDE):
        return
    for match in OUTSIDE.finditer(text.text):
        yield f"{text.where(match.start())}: cites {match[0]!r}, which is outside the repository"
