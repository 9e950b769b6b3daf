"""The checksum in `index.json`, which shows that a file was flipped or cut. Pure.

The last annotation of the document is the sha256 of all bytes before it.
"""

import hashlib

from airside.core.errors import InputError
from airside.oci.strict_json import load_json

GENERATION = "dev.airside.generation"
_MARK = b',"dev.airside.checksum":"'
_END = b'"}}\n'
_ENTRIES_END = b"\n],"
"""No JSON string has a line break: the last one ends the entries."""


def sealed(text: bytes) -> bytes:
    """Completes a document whose object of annotations is not yet closed."""
    return b"".join((text, _MARK, hashlib.sha256(text).hexdigest().encode(), _END))


def is_intact(raw: bytes) -> bool:
    """Returns True if the bytes are those that were written. A file without a checksum passes."""
    text, mark, rest = raw.rpartition(_MARK)
    if not mark:
        return True
    return rest == hashlib.sha256(text).hexdigest().encode() + _END


def index_generation(raw: bytes | None) -> int:
    """Returns the catalog's generation in an `index.json`.

    -1 if there is no file, if it is not ours, or if it is damaged.
    """
    if raw is None or not is_intact(raw):
        return -1
    try:
        index = load_json(_without_entries(raw), "index.json", max_tokens=None)
        if not isinstance(index["manifests"], list):
            return -1
        return int(index["annotations"][GENERATION])
    except (InputError, KeyError, TypeError, ValueError):
        return -1


def _without_entries(raw: bytes) -> bytes:
    """Returns a sealed document without its entries: those of 10,000 names take 0.1 s to parse."""
    _, mark, rest = raw.rpartition(_ENTRIES_END)
    return b'{"manifests":[],' + rest if mark and _MARK in raw else raw
