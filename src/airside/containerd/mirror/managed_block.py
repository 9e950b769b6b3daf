"""Our lines in a file of somebody else: inserted between marks, and removed byte for byte. Pure.

    # >>> airside mirror 3f2a91bc for=docker.io made=1
    …our lines…
    # | a line of the file that ours replace
    # <<< airside mirror

Both formats that we write, TOML and YAML, have such comments. The mark carries a checksum of the
lines between: lines that somebody changed are not removed, since their meaning is unknown. `made=N`
says that we made the file, with N directories above it. The end mark says so if the block follows a
last line without a line end.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from airside.core.errors import ConflictError

_BEGIN = "# >>> airside mirror"
_END = "# <<< airside mirror"
_CUT = ", put behind a line without an end"
_WAS = "# | "
_BEGIN_LINE = re.compile(rf"\s*{_BEGIN} ([0-9a-f]{{8}})((?: [a-z]+=\S+)*)\s*\Z")
_END_LINE = re.compile(rf"\s*{_END}({_CUT})?\s*\Z")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A text without our lines, and the notes of our marks."""

    text: str
    registries: tuple[str, ...] = ()
    made: int | None = None


@dataclass(frozen=True, slots=True)
class _Block:
    first: int
    last: int
    notes: dict[str, str]
    inside: tuple[str, ...]
    cut: bool


def split_lines(text: str) -> list[str]:
    """Splits a text into lines with their ends; only a line feed ends one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def without_ours(text: str) -> Foreign:
    """Returns what others wrote. Raises ConflictError if our lines or marks were changed."""
    lines = split_lines(text)
    kept: list[str] = []
    registries: list[str] = []
    made: int | None = None
    position = 0
    for block in _blocks(lines):
        kept += lines[position : block.first]
        kept += [line.partition(_WAS)[2] for line in block.inside if _is_was(line)]
        position = block.last + 1
        if block.cut and position == len(lines) and kept:
            kept[-1] = kept[-1].removesuffix("\n").removesuffix("\r")
        if "for" in block.notes:
            registries += block.notes["for"].split(",")
        if "made" in block.notes:
            made = int(block.notes["made"])
    return Foreign("".join(kept + lines[position:]), tuple(registries), made)


def with_lines(
    text: str,
    ours: Iterable[str],
    *,
    first: int,
    last: int | None = None,
    registries: Sequence[str] = (),
    made: int | None = None,
) -> str:
    """Inserts our lines before line `first`, or in place of the lines from `first` to `last`.

    The text may have blocks of ours elsewhere. Raises ConflictError if our lines could not be
    removed from the result again.
    """
    lines = split_lines(text)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    after = first if last is None else last + 1
    replaced = lines[first:after]
    inside = [line + end for line in ours] + [_WAS + line for line in replaced]
    before = lines[:first]
    cut = after == len(lines) and bool(lines) and not lines[-1].endswith("\n")
    if cut and replaced:
        inside[-1] += end
    elif cut:
        before[-1] += end
    notes = f" for={','.join(registries)}" if registries else ""
    notes += f" made={made}" if made is not None else ""
    begin = f"{_BEGIN} {_sum(inside)}{notes}{end}"
    close = f"{_END}{_CUT if cut else ''}{end}"
    result = "".join([*before, begin, *inside, close, *lines[after:]])
    if without_ours(result).text != without_ours(text).text:
        raise ConflictError("it has lines that look like our marks")
    return result


def _is_was(line: str) -> bool:
    return line.startswith(_WAS)


def _sum(inside: Sequence[str]) -> str:
    return sha256("".join(line.rstrip("\r\n") + "\n" for line in inside).encode()).hexdigest()[:8]


def _blocks(lines: Sequence[str]) -> Iterable[_Block]:
    first: int | None = None
    for number, line in enumerate(lines):
        if line.strip().startswith(_BEGIN):
            if first is not None:
                raise _broken(first, "a second mark begins before the first one ends")
            first = number
        elif line.strip().startswith(_END):
            if first is None:
                raise _broken(number, "a mark ends that never began")
            yield _block(lines, first, number)
            first = None
    if first is not None:
        raise _broken(first, "the mark that ends our lines is missing")


def _block(lines: Sequence[str], first: int, last: int) -> _Block:
    begin, end = _BEGIN_LINE.match(lines[first]), _END_LINE.match(lines[last])
    if begin is None or end is None:
        raise _broken(first, "a mark is not as it was written")
    notes = dict(note.split("=", 1) for note in begin[2].split())
    inside = tuple(lines[first + 1 : last])
    if _sum(inside) != begin[1] or not notes.get("made", "0").isdecimal():
        raise _broken(first, "somebody changed the lines between our marks")
    return _Block(first, last, notes, inside, end[1] is not None)


def _broken(line: int, what: str) -> ConflictError:
    return ConflictError(
        f"line {line + 1}: {what}",
        hint=f"remove the lines from `{_BEGIN} …` to `{_END}` by hand; lines that begin with "
        f"`{_WAS}` are the original ones",
    )
