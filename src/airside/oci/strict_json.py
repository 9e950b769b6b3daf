"""Parses JSON strictly, in time and memory that are known before the parser runs. Pure.

The C parser holds the GIL until a list ends: 4 MB of `[]` stopped every other thread for half a
second and took 120 MB. So the tokens of a document are counted first. What always holds:

- a document of more than `MAX_TOKENS` strings, commas and brackets, or of more than `MAX_ESCAPES`
  backslashes, is refused unparsed;
- no other thread waits for one call of C for more than 70 ms of a processor's time;
- parsing one of 4 MiB takes at most 40 MiB beside its bytes, which `parsed_bytes` estimates;
- input on which parsers disagree is refused.
"""

import json
import math
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

from airside.core.errors import ManifestInvalidError

MAX_TOKENS = 250_000
"""The strings, commas and opening brackets in one document: 10,000 descriptors with annotations."""
MAX_ESCAPES = 500_000
"""The backslashes in one document: the C parser and `_TOKEN` take 25 ns each, without a pause."""
_TOKEN_BYTES = 120
"""Measured: objects of one member, strings without their text and numbers take less per token."""
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)
"""Possessive, and a string may lack its end: else the search would be quadratic in `\\"`."""
_SURROGATES = ("\\ud", "\\uD")
_MOST_NESTED = 100
"""Levels in a document. Otherwise the limit would depend on the caller's depth in the stack."""
_MOST_DIGITS = 100
"""Digits of a number: the time to parse an integer is quadratic in them."""


def load_json(raw: bytes, what: str, *, max_tokens: int | None = MAX_TOKENS) -> Any:
    """Parse JSON, but refuse input on which parsers disagree, and too many tokens.

    That is bad UTF-8, lone surrogates, repeated keys, NaN, numbers beyond a float or of more than
    100 digits, and nesting of more than 100 levels. `max_tokens` is None for our own documents.
    Raises ManifestInvalidError that names `what`.
    """
    if max_tokens is not None:
        _check_amount(raw, what, max_tokens)
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
        )
        _check_nesting(value)
        if any(mark in text for mark in _SURROGATES):  # perhaps a lone one, which cannot be encoded
            _check_encodable(value)
    except (ValueError, RecursionError) as exc:
        raise ManifestInvalidError(f"{what} is not valid JSON: {exc}") from exc
    return value


def _check_amount(raw: bytes, what: str, max_tokens: int) -> None:
    if raw.count(b"\\") > MAX_ESCAPES:
        raise ManifestInvalidError(
            f"{what} has more than {MAX_ESCAPES} escaped characters in its texts",
            expected=MAX_ESCAPES,
        )
    if count_tokens(raw, max_tokens) > max_tokens:
        raise ManifestInvalidError(
            f"{what} has more than {max_tokens} strings, commas and brackets, whatever "
            "limits.names and limits.descriptors allow: split it",
            expected=max_tokens,
        )


def count_tokens(raw: bytes, most: int) -> int:
    """Returns the number of strings, commas and opening brackets, at least; stops above `most`.

    A count of bytes alone, which is faster, is returned if it is at most `most`: it is never less
    than the number of tokens.
    """
    quick = _count_marks(raw)
    if quick <= most:
        return quick
    return sum(1 for _ in islice(_TOKEN.finditer(raw), most + 1))


def _count_marks(raw: bytes) -> int:
    return sum(raw.count(mark) for mark in (b",", b"[", b"{")) + (raw.count(b'"') + 1) // 2


@dataclass(slots=True)
class ParsedCost:
    """Estimates what a document takes in memory once it is parsed, from its bytes as they come."""

    size_bytes: int = 0
    _marks: int = 0
    _width: int = 2

    def add(self, piece: bytes) -> None:
        """Counts the next bytes. A string takes up to four bytes a character for one wide one."""
        self.size_bytes += len(piece)
        self._marks += _count_marks(piece)
        if not piece.isascii():
            self._width = 8
        elif b"\\" in piece:
            self._width = max(self._width, 5)

    @property
    def parsed_bytes(self) -> int:
        """The memory that parsing takes at most, the bytes themselves excluded."""
        return self.size_bytes * self._width + min(self._marks, MAX_TOKENS) * _TOKEN_BYTES


def parsed_bytes(raw: bytes) -> int:
    """Returns the memory that parsing these bytes takes at most, the bytes themselves excluded."""
    cost = ParsedCost()
    cost.add(raw)
    return cost.parsed_bytes


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"the number {text:.40}… has more than {_MOST_DIGITS} digits")
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text:.40} is too large")
    return value


def _short(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"the number {text:.40}… has more than {_MOST_DIGITS} digits")
    return int(text)


def _check_encodable(value: Any) -> None:
    """Raises UnicodeEncodeError for a lone surrogate. `json.dumps` would hold the GIL for 0.2 s."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            each.encode()
        elif isinstance(each, dict):
            left += each
            left += each.values()
        elif isinstance(each, list):
            left += each


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(_MOST_NESTED + 1):
        inside = [each for each in level if isinstance(each, dict | list)]
        level = [v for each in inside for v in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_MOST_NESTED} deep")
