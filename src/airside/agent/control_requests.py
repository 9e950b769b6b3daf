"""Parses the requests of the control socket: numbers, names, paths, flags.

What always holds: a value of another type, a number that SQLite cannot hold, a text that no name or
path can have (NUL, a lone surrogate, too long), an unknown key and a body that is no JSON object
are refused with RequestInvalidError, which names the value. Pure.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airside.core.errors import RequestInvalidError

MAX_NUMBER = 2**63 - 1
"""The largest integer of SQLite."""
_NUMBER = re.compile(r"[0-9]{1,19}\Z")
_TEXT_BYTES = 4096
"""As PATH_MAX of Linux."""
_SHOWN_CHARS = 80


def parse_number(query: Mapping[str, str], key: str, default: int) -> int:
    """Returns a whole number of a query, from 0 to MAX_NUMBER."""
    text = query.get(key)
    if text is None:
        return default
    if not _NUMBER.match(text) or int(text) > MAX_NUMBER:
        raise RequestInvalidError(
            f"{key} must be a whole number from 0 to {MAX_NUMBER}, found {text[:_SHOWN_CHARS]!r}"
        )
    return int(text)


def parse_text(values: Mapping[str, Any], key: str) -> str:
    """Returns a text that may be a name or a path."""
    text = values.get(key)
    if not isinstance(text, str) or not text:
        raise RequestInvalidError(f"{key} must be a text, found {_shown(text)}")
    if "\0" in text:
        raise RequestInvalidError(f"{key} has a NUL character: {_shown(text)}")
    try:
        raw = text.encode("utf-8", "surrogateescape")  # as `os.fsencode`: any bytes are a name
    except UnicodeEncodeError as exc:
        raise RequestInvalidError(f"{key} has a lone surrogate: {_shown(text)}") from exc
    if len(raw) > _TEXT_BYTES:
        raise RequestInvalidError(f"{key} is longer than {_TEXT_BYTES} bytes: {_shown(text)}")
    return text


def parse_path(values: Mapping[str, Any], key: str) -> Path:
    """Returns an absolute path without `..`, whose meaning depends on links."""
    path = Path(parse_text(values, key))
    if not path.is_absolute() or ".." in path.parts:
        raise RequestInvalidError(
            f"{key} must be an absolute path without '..', found {_shown(str(path))}"
        )
    return path


def parse_flag(values: Mapping[str, Any], key: str) -> bool:
    """Returns a boolean; False if the key is absent."""
    value = values.get(key, False)
    if not isinstance(value, bool):
        raise RequestInvalidError(f"{key} must be true or false, found {_shown(value)}")
    return value


def parse_body(raw: bytes, *keys: str) -> dict[str, Any]:
    """Returns a JSON object that has no other keys than these."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise RequestInvalidError("the body is not JSON") from exc
    known = ", ".join(keys) or "none"
    if not isinstance(found, dict):
        raise RequestInvalidError(f"the body must be a JSON object; known keys: {known}")
    unknown = sorted(found.keys() - set(keys))
    if unknown:
        raise RequestInvalidError(f"unknown key {_shown(unknown[0])} in the body; known: {known}")
    return found


def _shown(value: object) -> str:
    return ascii(value)[:_SHOWN_CHARS]
