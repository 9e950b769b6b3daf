"""Parses a list of images: a text with an image name on each line. Pure.

A file is a list if its name ends in `.txt` and its bytes are neither compressed nor a tar. So an
archive with such a name is an archive, and a text with another name is no list. Comments (`#`, on a
line of their own or after a blank) and blank lines are allowed. A file that is no text, or too
long, is rejected as a whole; a line that is no image name is a problem of its own. Names that are
equal once normalised are one image.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from airside.archive.formats.text import UTF_16, decode_text
from airside.core.errors import ArchiveFormatError, ArchiveLimitError, ReferenceInvalidError
from airside.core.problem import Problem
from airside.core.settings import Limits
from airside.oci.reference import Reference, parse_reference

SUFFIX = ".txt"
LIST = "list"
"""The format of a list, as `airside archives` shows it."""

_BOM = b"\xef\xbb\xbf"
_TAR_MAGIC = slice(257, 262)
_CHECKSUM = slice(148, 156)
_BINARY = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_COMMENT = re.compile(r"(?:\A|\s)#.*")
_SHOWN_CHARS = 200
_LONGEST_NAME = 1_000
"""More than any image name has: repository 255, tag 128, digest 135 characters."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a list, with the first line that names it; `end` is the offset after the line."""

    name: str
    line: int
    end: int


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images of a list in their order, each once. A problem is a line that is no name."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def is_list_name(name: str) -> bool:
    return name.lower().endswith(SUFFIX)


def is_tar(head: bytes) -> bool:
    """Returns True if the first bytes are a tar header, by its magic or its checksum (V7)."""
    if head[_TAR_MAGIC] == b"ustar":
        return True
    block, text = head[:512], head[_CHECKSUM].strip(b"\0 ")
    if len(block) < 512 or not re.fullmatch(rb"[0-7]{1,7}", text):
        return False
    return sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ") == int(text, 8)


def parse_list(data: bytes, limits: Limits) -> ImageList:
    """Parse a list. Raises ArchiveLimitError, and ArchiveFormatError if it is no text."""
    if len(data) > limits.list_bytes:
        raise ArchiveLimitError(
            f"the list has more than {limits.list_bytes} bytes (limits.list_bytes)",
            limit="limits.list_bytes",
        )
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    repeated = 0
    for count, (number, end, text) in enumerate(_lines(data), 1):
        if count > limits.list_lines:
            raise ArchiveLimitError(
                f"the list has more than {limits.list_lines} images (limits.list_lines)",
                limit="limits.list_lines",
            )
        try:
            name = _name(text)
        except ReferenceInvalidError as exc:
            hint = exc.context.get("hint")
            why = f"line {number}: {exc.message}" + (f": {hint}" if hint else "")
            problems.append(Problem(why, text[:_SHOWN_CHARS]))
            continue
        repeated += name in entries
        entries.setdefault(name, Entry(name, number, end))
    return ImageList(tuple(entries.values()), tuple(problems), tuple(_notes(entries, repeated)))


def _notes(entries: dict[str, Entry], repeated: int) -> Iterator[str]:
    if not entries:
        yield "the list names no image"
    if repeated:
        yield f"{repeated} of its lines name an image again: it is pulled once"


def _lines(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Yields (number, offset of its end, text) of the lines with a name. Raises as `parse_list`."""
    if data.startswith(UTF_16):
        data = (decode_text(data) or "\0").encode("utf-8", "replace")
    start = len(_BOM) if data.startswith(_BOM) else 0
    for number, raw in enumerate(data[start:].split(b"\n"), 1):
        start += len(raw) + 1
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = "\0"
        if _BINARY.search(text):
            raise ArchiveFormatError(
                f"line {number} is not text: a list (.txt) has an image name on each line, in UTF-8"
            )
        said = _COMMENT.sub("", text).strip()
        if said:
            yield number, min(start, len(data)), said


def _name(text: str) -> str:
    """Returns the full name. Of a tag and a digest only the digest counts, as in containerd."""
    if len(text) > _LONGEST_NAME:
        raise ReferenceInvalidError(f"{len(text)} characters are too many for an image name")
    found = parse_reference(text)
    return str(Reference(found.repository, "" if found.digest else found.tag, found.digest))
