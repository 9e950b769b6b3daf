"""Reads what containerd holds, for our registry. Implements `airside.ports.content.RuntimeContent`.

A blob is read from containerd's content directory (`<root>/blobs/<alg>/<hex>`) if that is readable
here; else over gRPC (ADR 0015). Always true:

- containerd is asked first if *the namespace* has a blob: its directory holds all namespaces.
- A blob belongs to a repository by the label `containerd.io/distribution.source.<host>`, or as
  what is below an image record of that repository (`repository:tag`, `repository@digest`).
- A file of another size than containerd says is damaged (power loss leaves empty ones): absent.
- A query takes PATIENCE_SECONDS at most. A call that used most of that up opens the breaker:
  then queries are refused at once for PAUSE_SECONDS, except one.

Left to others: what is served, to whom, and what is quarantined (`airside.registry`).
"""

import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from airside.containerd.bounded_query import BoundedQuery, DocumentCache, TargetCache, blob_path
from airside.containerd.client import Client
from airside.containerd.peer_check import is_peer
from airside.core.circuit_breaker import CircuitBreaker
from airside.core.errors import AirsideError, ContainerdError, NotFoundError
from airside.core.settings import Limits
from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.oci.reference import Repository
from airside.ports.content import Connection, Only, RuntimeBlob, RuntimeTag, StoredDocument

PATIENCE_SECONDS = 0.4
PAUSE_SECONDS = 5.0
CHUNK_SECONDS = 3.0
"""The longest wait for one chunk of a transfer over gRPC."""

_LOG = logging.getLogger("airside.containerd")


class ContainerdContent:
    """The content of one namespace of one containerd. The caller owns the client.

    `content_root` is exported by the content plugin, a path of containerd's own mount namespace. If
    it is None or cannot be read here, everything is read over gRPC.
    """

    def __init__(
        self,
        client: Client,
        content_root: Path | None,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._root, self._limits = client, content_root, limits
        self._clock = clock
        self._breaker = CircuitBreaker(clock, PAUSE_SECONDS)
        self._documents, self._targets = DocumentCache(), TargetCache(clock)

    def tag(self, repository: Repository, tag: str, only: Only = None) -> RuntimeTag | None:
        with self._query() as query:
            record = query.image(f"{repository}:{tag}")
            if record is not None and not query.is_among(record.target, only):
                return None
            document = query.document(record.target.digest) if record is not None else None
            if record is None or document is None:
                return None
            needs, lacks = query.whole(record.target.digest, document)
            return RuntimeTag(_stored(record.target.digest, document), tuple(needs), lacks)

    def document(
        self, repository: Repository, digest: Digest, only: Only = None
    ) -> StoredDocument | None:
        with self._query() as query:
            document = query.document(digest)
            if document is None or not query.belongs(repository, digest, only):
                return None
            return _stored(digest, document)

    def blob(self, repository: Repository, digest: Digest, only: Only = None) -> RuntimeBlob | None:
        with self._query() as query:
            info = query.info(digest)
            if info is None or not query.belongs(repository, digest, only):
                return None
            path = blob_path(self._root, digest)
            if path is not None and os.access(path, os.R_OK):
                return RuntimeBlob(info.size_bytes, partial(open_file, path, digest))
            # HEAD promises what GET will send: check that the last byte is readable
            if info.size_bytes and not query.stream(digest, info.size_bytes - 1, 1):
                return None
            streamed = StreamedBlob(self._client, digest, info.size_bytes)
            return RuntimeBlob(info.size_bytes, lambda: cast("BinaryIO", streamed))

    def is_client(self, connection: Connection) -> bool:
        return is_peer(self._client.channel.socket, connection)

    @contextmanager
    def _query(self) -> Iterator[BoundedQuery]:
        """Yields a query, unless containerd did not answer lately. Raises ContainerdError."""
        socket = self._client.channel.socket
        if not self._breaker.allows():
            raise ContainerdError(f"containerd at {socket} does not answer", status="UNAVAILABLE")
        query = BoundedQuery(
            self._client,
            self._root,
            self._limits,
            self._documents,
            self._targets,
            self._clock,
            PATIENCE_SECONDS,
        )
        try:
            yield query
        except ContainerdError as exc:
            _LOG.debug("%s: %s", socket, exc.message)
            if not query.hung:
                self._breaker.worked()
            elif self._breaker.failed():
                message = "containerd at %s does not answer; its images are not served for %d s"
                _LOG.warning(message, socket, PAUSE_SECONDS)
            raise
        if self._breaker.worked():
            _LOG.info("containerd at %s answers again; its images are served", socket)


def _stored(digest: Digest, document: Document) -> StoredDocument:
    return StoredDocument(digest, document.media_type, document.raw)


def open_file(path: Path, digest: Digest) -> BinaryIO:
    """Opens a blob's file in the content directory. Raises NotFoundError, ContainerdError."""
    try:
        return path.open("rb")
    except FileNotFoundError as exc:
        raise NotFoundError(f"containerd deleted blob {digest} meanwhile", blob=digest) from exc
    except OSError as exc:
        raise ContainerdError(f"cannot read {path}: {exc.strerror}", path=path) from exc


class StreamedBlob(io.RawIOBase):
    """A blob of containerd as a file; each read is one gRPC call.

    Nothing is held between two reads, so that a slow client costs nothing. Used by one thread.
    """

    def __init__(self, client: Client, digest: Digest, size_bytes: int) -> None:
        super().__init__()
        self._client, self._digest, self._size_bytes = client, digest, size_bytes
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size_bytes}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads up to `size` bytes; fewer at the end only. Raises OSError."""
        left = max(0, self._size_bytes - self._offset)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        try:
            chunks = self._client.content.read(
                self._digest, offset=self._offset, size_bytes=wanted, seconds=CHUNK_SECONDS
            )
            found = b"".join(chunks)
        except AirsideError as exc:
            raise OSError(exc.message) from exc
        self._offset += len(found)
        return found
