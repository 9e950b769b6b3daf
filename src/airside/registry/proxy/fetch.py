"""Fetches one blob from an upstream: written once, and sent to all waiting clients meanwhile.

Clients read the file while it is written, but its last byte only after all bytes were verified and
the blob is durable in the store. So no client takes wrong bytes for a complete blob: its response
is aborted before the last byte. A small blob is sent only after verification.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import BinaryIO, Protocol, TypeVar

import aiohttp

from airside.core.errors import (
    AirsideError,
    DigestMismatchError,
    NotFoundError,
    UpstreamAwayError,
    UpstreamError,
)
from airside.core.settings import KIB, MIB
from airside.oci.digest import Digest
from airside.oci.reference import Repository
from airside.registry.proxy.client import STALL_SECONDS, UpstreamClient
from airside.registry.push.uploads import UploadIngest
from airside.registry.rules import upstream as protocol

Result = TypeVar("Result")

SMALL_BYTES = MIB
"""A blob up to this size is verified before clients get an answer."""

_PIECE_BYTES = 256 * KIB
_RESUMPTIONS = 3
_LOG = logging.getLogger("airside.upstream")


class BlobWriter(Protocol):
    """Writes blobs: `registry.proxy.cache_writer.CacheWriter`, documented there."""

    def begin(self, digest: Digest, size_bytes: int) -> UploadIngest: ...
    def store_blob(self, repository: Repository, ingest: UploadIngest, digest: Digest) -> None: ...


class Fetch:
    """The fetch of one blob. `size_bytes` is declared by the upstream; None until it answers."""

    def __init__(
        self,
        client: UpstreamClient,
        repository: Repository,
        digest: Digest,
        cache: BlobWriter,
        pool: Executor,
        most_bytes: int,
    ) -> None:
        self.repository, self.digest = repository, digest
        self.size_bytes: int | None = None
        self._client, self._cache, self._pool = client, cache, pool
        self._most_bytes = most_bytes
        self._written = 0
        self._is_stored = False
        self._failure: AirsideError | None = None
        self._ingest: UploadIngest | None = None
        self._changed = asyncio.Event()

    # for waiting clients

    async def until_answered(self) -> None:
        """Waits for the first bytes, or until a small blob is stored. Raises AirsideError."""
        while not self._is_stored:
            if self._failure is not None:
                raise self._failure
            if self._ingest is not None and not self._is_small:
                return
            await self._changed.wait()

    async def until_stored(self) -> None:
        """Waits until the blob is verified and stored. Raises AirsideError."""
        while not self._is_stored:
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()

    @property
    def is_stored(self) -> bool:
        return self._is_stored

    @property
    def _is_small(self) -> bool:
        return self.size_bytes is None or self.size_bytes <= SMALL_BYTES

    def open(self) -> BinaryIO:
        """Opens the file while it is being written. Raises StoreError, NotFoundError."""
        if self._ingest is None:
            raise NotFoundError(f"blob {self.digest} is not being received")
        return self._ingest.open()

    async def reach(self, offset: int) -> int:
        """Waits for bytes past `offset`. Returns the end of those that may be sent.

        Raises OSError if the fetch has failed.
        """
        assert self.size_bytes is not None
        while True:
            end = self.size_bytes if self._is_stored else min(self._written, self.size_bytes - 1)
            if end > offset:
                return end
            if self._failure is not None:
                raise OSError(
                    f"blob {self.digest} was not fetched completely: {self._failure.message}"
                )
            await self._changed.wait()

    # fetching

    async def run(self) -> AirsideError | None:
        """Fetches, verifies and stores the blob. Returns the error if that failed."""
        try:
            await self._run()
            self._is_stored = True
        except AirsideError as exc:
            self._failure = exc
        except BaseException:
            self._failure = UpstreamError("the fetch was cancelled: the agent is stopping")
            raise
        finally:
            self._wake_waiting()
        if isinstance(self._failure, DigestMismatchError):
            _LOG.warning("%s sends wrong bytes: %s", self._client.upstream, self._failure.message)
        return self._failure

    async def _run(self) -> None:
        path = self.repository.path
        response = await self._client.open_blob(path, self.digest)
        try:
            self.size_bytes = protocol.parse_length(response.headers.get("Content-Length"))
            self._check_size(self.size_bytes or 0)
            size = self.size_bytes or 0
            self._ingest = await self._run_in_pool(self._cache.begin, self.digest, size)
            self._wake_waiting()
            await self._receive_all(response)
            await self._run_in_pool(
                self._cache.store_blob, self.repository, self._ingest, self.digest
            )
            self.size_bytes = self._written
        except BaseException:
            response.close()
            if self._ingest is not None:
                self._ingest.discard()
            raise
        response.release()

    async def _receive_all(self, response: aiohttp.ClientResponse) -> None:
        """Writes the body; requests the rest if the connection fails."""
        for left in reversed(range(_RESUMPTIONS + 1)):
            try:
                await self._receive(response)
            except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                size = self.size_bytes
                if not left or size is None or not 0 < self._written < size:
                    raise UpstreamAwayError(
                        f"{self._client.upstream} sent an incomplete blob: {exc!r}"
                    ) from exc
                response.close()
                response = await self._client.open_blob(
                    self.repository.path, self.digest, offset=self._written, size=size
                )
            else:
                response.release()
                return

    async def _receive(self, response: aiohttp.ClientResponse) -> None:
        pieces: list[bytes] = []
        count = 0
        try:
            while True:
                async with asyncio.timeout(STALL_SECONDS):
                    piece = await response.content.readany()
                pieces.append(piece)
                count += len(piece)
                self._check_size(self._written + count)
                if count >= _PIECE_BYTES or not piece:
                    await self._write(pieces)
                    pieces, count = [], 0
                if not piece:
                    return
        except (aiohttp.ClientError, OSError, TimeoutError):
            await self._write(pieces)
            raise

    async def _write(self, pieces: Sequence[bytes]) -> None:
        ingest = self._ingest
        assert ingest is not None

        def write() -> int:
            for piece in pieces:
                ingest.hash(piece)
                ingest.write(piece)
            return ingest.size_bytes

        self._written = await self._run_in_pool(write)
        self._wake_waiting()

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            raise UpstreamError(
                f"blob {self.digest} is larger than {self._most_bytes} bytes (limits.blob_bytes)"
            )

    def _wake_waiting(self) -> None:
        """Wakes all waiting clients."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run_in_pool(self, job: Callable[..., Result], *args: object) -> Result:
        """Runs a job in the pool. A cancellation waits for its end, as it uses the open file."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, job, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
