"""Sends a blob, or a part of it, to a client.

By `sendfile` in slices: between two slices, a client that is gone and the shutdown of the agent are
noticed. Under TLS, and for files that have no descriptor, chunks are read in the pool.

Always holds: a client that goes away is no error, and no file stays open after its response.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import BinaryIO

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from airside.core.settings import CHUNK_BYTES, MIB
from airside.registry.http.responses import headers_of
from airside.registry.http.throttle import OUT
from airside.registry.proxy.fetch import Fetch
from airside.registry.rules.answers import Part

SLICE_BYTES = 2 * MIB
"""What one `sendfile` moves before we look around."""
STALL_SECONDS = 300.0
"""A client that doesn't take a slice in this time is cut off; this allows 7 kB/s."""

_LOG = logging.getLogger("airside.registry")


class Transfers:
    """Bounds the slices of all running transfers, and cuts them off when we stop.

    A client that is cut off goes on with a range, here or elsewhere.
    """

    def __init__(self) -> None:
        self._stopping = False
        self._limits: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        self._stopping = True
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def slice(self) -> AsyncIterator[None]:
        """Bound one slice. Raises ConnectionResetError if we stop, OSError if it stalls."""
        if self._stopping:
            raise ConnectionResetError("the registry stops")
        limit = asyncio.timeout(STALL_SECONDS)
        self._limits.add(limit)
        try:
            async with limit:
                yield
        except TimeoutError as exc:
            if self._stopping:
                raise ConnectionResetError("the registry stops") from exc
            raise OSError(f"the client takes less than a slice in {STALL_SECONDS:g} s") from exc
        finally:
            self._limits.discard(limit)


class BlobResponse(web.StreamResponse):
    """Sends a part of a blob and closes its file; without a file, the headers alone.

    `fetch`: the file is still being written.

    Like aiohttp's own file response it sends from `prepare`, where a ConnectionError means that
    the client is gone and the connection is dropped without a word.
    """

    def __init__(
        self,
        part: Part,
        file: BinaryIO | None,
        reads: Executor,
        transfers: Transfers,
        fetch: Fetch | None = None,
    ) -> None:
        super().__init__(status=part.status, headers=headers_of(part.headers))
        self.content_length = part.count
        self._part = part
        self._file = file
        self._reads = reads
        self._transfers = transfers
        self._fetch = fetch

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        file, self._file = self._file, None
        if file is None:
            return await super().prepare(request)
        started = time.monotonic()
        try:
            writer = await super().prepare(request)
            await self._send(request, file)
        except ConnectionError as exc:
            _LOG.debug("%s to %s was given up: %s", request.path, request.remote, exc)
            _abort(request)
            raise
        except OSError as exc:  # of the disk, or of a stalled client
            _LOG.warning("%s to %s was cut off: %r", request.path, request.remote, exc)
            _abort(request)
            raise ConnectionResetError("the transfer was cut off") from exc
        finally:
            file.close()
        seconds = time.monotonic() - started
        _LOG.debug("%s: sent %d bytes in %.3f s", request.path, self._part.count, seconds)
        return writer

    async def _send(self, request: web.BaseRequest, file: BinaryIO) -> None:
        offset, end = self._part.start, self._part.start + self._part.count
        transport = request.transport
        native = transport is not None and transport.get_extra_info("sslcontext") is None
        throttle = request.get(OUT)
        slice_bytes = SLICE_BYTES if throttle is None else throttle.slice_bytes
        while offset < end:
            transport = request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client went away")
            count = min(slice_bytes, end - offset)
            if self._fetch is not None:
                count = min(count, await self._fetch.reach(offset) - offset)
            async with self._transfers.slice():
                if throttle is not None:
                    await throttle.take(request.remote, count)
                try:
                    if native:
                        sent = await _sendfile(transport, file, offset, count)
                    else:
                        sent = await self._write_chunk(file, offset, count)
                except asyncio.SendfileNotAvailableError:
                    native = False
                    continue
            if not sent:
                raise OSError(f"the file of the blob ends at byte {offset} of {end}")
            offset += sent

    async def _write_chunk(self, file: BinaryIO, offset: int, count: int) -> int:
        def read() -> bytes:
            file.seek(offset)
            return file.read(min(count, CHUNK_BYTES))

        chunk = await asyncio.wrap_future(self._reads.submit(read))
        if chunk:
            await self.write(chunk)
        return len(chunk)


def _abort(request: web.BaseRequest) -> None:
    """Drop the connection at once: a close would wait for a stalled client to take the rest."""
    if request.transport is not None:
        request.transport.abort()


async def _sendfile(transport: asyncio.Transport, file: BinaryIO, offset: int, count: int) -> int:
    loop = asyncio.get_running_loop()
    return await loop.sendfile(transport, file, offset, count, fallback=False)
