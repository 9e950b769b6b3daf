"""Parses what a client says of an archive before it uploads it. Pure.

Headers are those of tus 1.0.0 (https://tus.io/protocols/resumable-upload): `Upload-Length`,
`Upload-Offset` and `Upload-Metadata`, whose keys here are `filename`, `replace` and `sha256`.

Always holds: a name is one component of a path, is not hidden, is one that the watcher looks at,
and can be shown: no control characters, and none that change the direction of the text around it.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from airside.core.errors import RequestInvalidError
from airside.importer.watch.directories import is_candidate

NAME_BYTES = 255
"""The longest name of a file (NAME_MAX of Linux)."""
_METADATA_BYTES = 8192
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_COUNT = re.compile(r"[0-9]{1,18}\Z")
_UNSEEN = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_YES = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Offer:
    """An archive that a client wants to upload. `length` is None if the client does not say it."""

    name: str
    length: int | None
    sha256: str = ""
    """What the whole file must have, in hexadecimal; empty: not checked."""
    replace: bool = False
    """True if a file of this name may be replaced."""


def parse_name(text: str) -> str:
    """Returns the name for the file. Raises RequestInvalidError, which says what is wrong."""
    shown = repr(text[:80])
    if not text or text in {".", ".."}:
        raise RequestInvalidError("the archive needs a name")
    if "/" in text or "\\" in text:
        raise RequestInvalidError(f"the name {shown} has a path separator: send the bare name")
    if any(unicodedata.category(each) in _UNSEEN or each in _TURNING for each in text):
        raise RequestInvalidError(f"the name {shown} has control characters: rename the file")
    if len(text.encode()) > NAME_BYTES:
        raise RequestInvalidError(
            f"the name {shown}… has {len(text.encode())} bytes, at most {NAME_BYTES} are allowed: "
            "rename the file"
        )
    if not is_candidate(text):
        raise RequestInvalidError(
            f"a file with the name {shown} is never imported (hidden, or as of a file that is "
            "still being written): rename the file"
        )
    return text


def parse_offer(name: str, length: int | None, *, sha256: str = "", replace: str = "") -> Offer:
    """Checks the parts of an offer. Raises RequestInvalidError."""
    digest = sha256.strip().lower().removeprefix("sha256:")
    if digest and not _SHA256.match(digest):
        raise RequestInvalidError(f"sha256 must have 64 hexadecimal digits, found {sha256[:80]!r}")
    return Offer(parse_name(name), length, digest, replace.strip().lower() in _YES)


def parse_count(text: str, header: str) -> int:
    """Parses a number of bytes from a header. Raises RequestInvalidError."""
    if not _COUNT.match(text):
        raise RequestInvalidError(f"{header} must be a number of bytes, found {text[:80]!r}")
    return int(text)


def parse_metadata(text: str) -> Mapping[str, str]:
    """Parses `Upload-Metadata`: `key base64,key base64`. Raises RequestInvalidError."""
    if len(text) > _METADATA_BYTES:
        raise RequestInvalidError(f"Upload-Metadata is longer than {_METADATA_BYTES} bytes")
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as exc:
            raise RequestInvalidError(
                f"the value of {key[:40]!r} in Upload-Metadata is not UTF-8 in base64"
            ) from exc
    return found
