"""Patterns over names: `*` within a segment, `**` for any number of whole segments. Pure.

`*` matches any characters but `/`, also none. A segment `**` matches any number of segments, also
none: `team/**` is `team` and all below it, `**/app` is `app` under every host and path. All other
characters match themselves, so that a pattern without stars is one name. A repository is matched by
its full name, `host/path`; one that was pushed without a host has its path alone.
Matching takes at most the product of both lengths in steps, for any pattern.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

_SEGMENT = re.compile(r"[A-Za-z0-9._:\[\]*-]+\Z")
_ANY, _DEEP = "*", "**"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as it was written; see `parse_pattern`."""

    text: str

    def matches(self, name: str) -> bool:
        """Returns True if the pattern matches the whole name."""
        return _glob(self.text.split("/"), name.split("/"), _DEEP, _is_segment)

    def __str__(self) -> str:
        return self.text


def parse_pattern(text: str) -> Pattern:
    """Parse a pattern. Raises ValueError with the reason why it is invalid."""
    for segment in text.split("/"):
        if not _SEGMENT.match(segment):
            raise ValueError(
                f"the pattern {text[:300]!r} has a part that no name has: {segment[:80]!r}"
            )
        if _DEEP in segment and segment != _DEEP:
            raise ValueError(
                f"the pattern {text[:300]!r} has ** beside other characters: "
                "** matches whole parts between slashes, * matches characters"
            )
    return Pattern(text)


def is_pattern(text: str) -> bool:
    """Returns True if `parse_pattern` accepts the text."""
    try:
        parse_pattern(text)
    except ValueError:
        return False
    return True


def _is_segment(pattern: str, segment: str) -> bool:
    return _glob(pattern, segment, _ANY, str.__eq__)


def _glob(pattern: Sequence[T], found: Sequence[T], star: T, equal: Callable[[T, T], bool]) -> bool:
    """Returns True if the pattern matches the items; backtracks to the last star only."""
    here = there = 0
    after_star, resume = -1, 0
    while there < len(found):
        if here < len(pattern) and pattern[here] == star:
            here += 1
            after_star, resume = here, there
        elif here < len(pattern) and equal(pattern[here], found[there]):
            here, there = here + 1, there + 1
        elif after_star >= 0:
            resume += 1
            here, there = after_star, resume
        else:
            return False
    return all(item == star for item in pattern[here:])
