"""Knows parts of a split archive by their names: `split`, hauler, zarf and others. Pure.

Names say where a part belongs; how many parts there are, only the joined bytes say.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airside.archive.formats.companions import ARCHIVE_SUFFIXES, companion_of

_WHOLE = (*ARCHIVE_SUFFIXES, ".zip", ".7z", ".rar", ".oci", ".haul")
_PART = re.compile(
    r"(?P<before>.+[._-]part[._-]?)(?P<number>\d{1,4})(?P<after>([._-]?of[._-]?\d{1,4})?(\.\w+)*)",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"(?P<before>.+[._-])(?P<number>\d{1,3}|0\d{3})(?P<after>)")
"""At most 999: `images.tar.2026` has a year."""
_ZIP = re.compile(r"(?P<before>.+\.z)(?P<number>\d\d)(?P<after>)", re.IGNORECASE)
_LETTERS = (
    re.compile(r"(?P<before>.+)(?P<number>[a-z]{2})(?P<after>)"),
    re.compile(r"(?P<before>.+)(?P<number>[a-z]{3})(?P<after>)"),
)
_CHUNK = re.compile(r"(?P<before>.+)_(?P<number>\d{1,4})(?P<after>(\.\w+)+)")
_SPLIT_WORD = re.compile(r"[._-](?:part[._-]?)?$", re.IGNORECASE)
_OF = re.compile(r"[._-]?of[._-]?\d{1,4}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A part by its name: `number` counts from 0 for letters, else as the name does."""

    before: str
    text: str
    after: str

    @property
    def is_lettered(self) -> bool:
        return self.text.isalpha()

    @property
    def number(self) -> int:
        if not self.is_lettered:
            return int(self.text)
        value = 0
        for letter in self.text:
            value = value * 26 + ord(letter) - ord("a")
        return value

    @property
    def key(self) -> tuple[str, str, int]:
        """The same for all parts of one archive."""
        return self.before, self.after, len(self.text)

    @property
    def whole(self) -> str:
        """The name of the archive that the parts are of."""
        if self.before.lower().endswith(".z"):
            return f"{self.before}ip"
        return _SPLIT_WORD.sub("", self.before) + _OF.sub("", self.after)

    def is_version_among(self, names: set[str]) -> bool:
        """Returns True for `x.tar.1` beside `x.tar`: an older version, or a second download."""
        return not self.after and len(self.text) == 1 and self.whole in names

    def name_of(self, number: int) -> str:
        """Returns the name of the part with this number."""
        if not self.is_lettered:
            return f"{self.before}{number:0{len(self.text)}d}{self.after}"
        letters = ""
        for _ in self.text:
            number, rest = divmod(number, 26)
            letters = chr(ord("a") + rest) + letters
        return f"{self.before}{letters}{self.after}"


def part_of(name: str) -> Part | None:
    """Returns the part that a file is by its name; None for a file that is whole."""
    found = _PART.fullmatch(name)
    if found is None and not name.lower().endswith(ARCHIVE_SUFFIXES):
        matches = (pattern.fullmatch(name) for pattern in (_DIGITS, *_LETTERS))
        found = next((m for m in matches if m and _is_archive_name(m["before"])), None)
    found = found or _ZIP.fullmatch(name)
    if found is None:
        return None
    part = Part(found["before"], found["number"], found["after"])
    return None if part.is_lettered and companion_of(name, b"") else part


def _is_archive_name(before: str) -> bool:
    return _SPLIT_WORD.sub("", before).lower().endswith(_WHOLE)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one archive that are there, in their order, and the absent ones between."""

    names: tuple[str, ...]
    missing: tuple[str, ...]
    next_name: str
    whole: str

    def without_first(self, count: int) -> "Parts":
        """Returns the parts behind a first one that only describes them, as zarf's part000.

        `count`: how many there must be.
        """
        part = part_of(self.names[0])
        assert part is not None
        wanted = [part.name_of(part.number + n + 1) for n in range(count)]
        there = set(self.names)
        return Parts(
            tuple(name for name in wanted if name in there),
            tuple(name for name in wanted if name not in there),
            self.next_name,
            self.whole,
        )


def parts_among(name: str, others: Iterable[str]) -> Parts | None:
    """Returns the parts of the archive that a file is one of; None for a file that is whole."""
    own = part_of(name)
    if own is None:
        return None
    found = _grouped((name, *others)).get(own.key)
    return _parts(found, own) if found else None


def _grouped(names: Iterable[str]) -> Mapping[tuple[str, str, int], dict[int, str]]:
    groups: dict[tuple[str, str, int], dict[int, str]] = {}
    there = set(names)
    for name in there:
        part = part_of(name)
        if part is not None and not part.is_version_among(there):
            groups.setdefault(part.key, {})[part.number] = name
    return groups


def _parts(found: Mapping[int, str], own: Part) -> Parts:
    first = 0 if own.is_lettered or 0 in found else 1
    last = max(found)
    return Parts(
        tuple(found[number] for number in sorted(found)),
        tuple(own.name_of(n) for n in range(first, min(last, first + 10_000)) if n not in found),
        own.name_of(last + 1),
        own.whole,
    )


def later_parts(names: Iterable[str]) -> frozenset[str]:
    """Returns the names that are parts of an archive whose first part is another of these names."""
    later: set[str] = set()
    for group in _grouped(names).values():
        later |= {group[number] for number in sorted(group)[1:]}
    return frozenset(later)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What may be a part of Hauler 2.0: these names are those of whole archives too.

    `neighbour`: the name beside it that a part must have. `advice`: what to do with a part.
    """

    neighbour: str
    advice: str


def chunk_of(name: str) -> Chunk | None:
    """Returns what a file may be a part of, by a name such as `haul_0.tar.zst`; or None."""
    found = _CHUNK.fullmatch(name)
    if found is None or not name.lower().endswith(ARCHIVE_SUFFIXES):
        return None
    before, number, after = found["before"], int(found["number"]), found["after"]
    return Chunk(
        f"{before}_{number - 1 if number else 1}{after}",
        f"if it is a part, as Hauler 2.0 names them, rename it to '{before}{after}.{number:03}', "
        "and the others in the same way",
    )
