"""Members of an archive to write: names, blobs and links, before any byte is written."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from airside.oci.digest import Digest, digest_of


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of known digest and size; `open` returns a new stream, which the writer closes."""

    digest: Digest
    size_bytes: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Member:
    """One tar member: a file with a blob, a symbolic link with a target, else a directory."""

    name: str
    blob: Blob | None = None
    target: str = ""
    mode: int = 0o644


def blob_of(data: bytes) -> Blob:
    """Returns a blob of bytes in memory: a document or a small layer."""
    return Blob(digest_of(data), len(data), partial(io.BytesIO, data))


def file_member(name: str, data: bytes) -> Member:
    return Member(name, blob_of(data))


def json_bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
