"""Files whose names are no UTF-8: listed under an escaped path, as rejected. Blocking.

The catalog, JSON and logs hold text, so such a file is not imported; bytes that are no UTF-8 are
shown as hexadecimal escapes.
"""

import os
import re
from pathlib import Path

from airside.agent.node import Node
from airside.catalog.model import Import
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
    result = Import(
        source_id=ids[text],
        state="rejected",
        reason=_REASON,
        stat_key=str(settled.key),
        plan_digest="",
        format="",
        compression="",
        seconds=0.0,
        claims=(),
        documents=(),
        platforms={},
        blobs={},
        problems=(Problem(_REASON),),
        keeps_claims=True,
    )
    try:
        node.catalog.imports.record(result, node.clock())
    except NotFoundError:  # removed meanwhile
        return text
    return text
