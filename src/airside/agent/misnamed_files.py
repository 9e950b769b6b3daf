"""Files whose names are no UTF-8: listed under an escaped path, as rejected. Blocking.

The catalog, JSON and logs hold text, so such a file is not imported; bytes that are no UTF-8 are
shown as hexadecimal escapes.
"""

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from airside.agent.node import Node
from airside.catalog.model import NOTHING_READ
from airside.core.errors import NotFoundError
from airside.core.problem import Problem
from airside.importer.watch.settle import Settled

_REASON = "the name is not UTF-8: rename the file"
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def shown_path(path: Path) -> str:
    """Returns a path as the catalog has it: bytes that are no UTF-8 escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def path_shown(text: str) -> Path:
    """Returns the path that `shown_path` gave; the text itself where a file has that name."""
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text.encode())
    return Path(text) if raw == text.encode() or os.path.lexists(text) else Path(os.fsdecode(raw))


def record_misnamed(node: Node, settled: Settled) -> str:
    """Record a file as rejected. Returns its escaped path. Raises StoreError."""
    text = shown_path(settled.path)
    files = [(text, str(settled.key), settled.key.size_bytes)]
    ids = node.catalog.source_states.settle(files, node.clock())
    result = replace(
        NOTHING_READ,
        source_id=ids[text],
        state="rejected",
        reason=_REASON,
        stat_key=str(settled.key),
        problems=(Problem(_REASON),),
    )
    with suppress(NotFoundError):  # removed meanwhile
        node.catalog.imports.record(result, node.clock())
    return text
