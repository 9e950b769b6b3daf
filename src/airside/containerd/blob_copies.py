"""containerd's own files of blobs, for repairs. Implements `airside.ports.content.RuntimeCopies`.

Nothing is trusted here: the caller hashes what `copy` returns, and `mend` hashes a file before it
leaves that file as it is. A file is replaced by rename from the private directory
(`containerd.content_directory`). Snapshots that were unpacked from a damaged layer are not touched:
they were checked by diff ID.
"""

import contextlib
import os
import threading
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from airside.containerd.adopt import Adopter
from airside.containerd.bounded_query import blob_path
from airside.containerd.client import Client
from airside.containerd.read_through import StreamedBlob, open_file
from airside.core.errors import NotFoundError
from airside.oci.digest import Digest, new_hasher
from airside.ports.content import RuntimeBlob

_CHUNK_BYTES = 1024 * 1024


class ContainerdCopies:
    """The copies of one namespace. The caller owns the client.

    `placing` is held while files are put into the content directory.
    """

    def __init__(
        self, client: Client, root: Path | None, adopter: Adopter, placing: threading.Lock
    ) -> None:
        self._client, self._root = client, root
        self._adopter, self._placing = adopter, placing

    @property
    def runtime(self) -> str:
        return self._client.channel.socket

    def copy(self, digest: Digest) -> RuntimeBlob | None:
        info = self._client.content.info(digest)
        if info is None:
            return None
        path = blob_path(self._root, digest)
        if path is not None and os.access(path, os.R_OK):
            return RuntimeBlob(path.stat().st_size, partial(open_file, path, digest))
        streamed = StreamedBlob(self._client, digest, info.size_bytes)
        return RuntimeBlob(info.size_bytes, lambda: cast("BinaryIO", streamed))

    def mend(self, digest: Digest) -> str:
        path = blob_path(self._root, digest)
        if path is not None and self._adopter.is_same(digest):
            return "right"
        found = self.copy(digest)
        if found is None:
            return "absent"
        if _is_right(found, digest):
            return "right"
        with self._placing:
            return "replaced" if self._adopter.replace(digest) else "wrong"


def _is_right(blob: RuntimeBlob, digest: Digest) -> bool:
    """Returns True if the bytes match the digest; False too for a blob that cannot be read."""
    hasher = new_hasher(digest.algorithm)
    try:
        with contextlib.closing(blob.open()) as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
    except (OSError, NotFoundError):
        return False
    return hasher.hexdigest() == digest.hex
