"""Sends a blob, or a part of it, to a client.

Data is sent by `sendfile` in slices: between two slices a disconnected client and the shutdown of
the agent are noticed. Under TLS, and for files without a descriptor, chunks are read in the pool.

Always holds: a disconnecting client is no error, and no file stays open after its response.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import BinaryIO, Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from airside.core.settings import CHUNK_BYTES, MIB
from airside.registry.http.metering import METER
from airside.registry.http.responses import headers_of
from airside.registry.http.throttle import OUT
from airside.registry.rules.answers import Part

SLICE_BYTES = 2 * MIB
"""Size of one `sendfile`; a disconnect or shutdown is noticed after it."""
STALL_SECONDS = 300.0
"""A client that does not receive a slice in this time is disconnected; this allows 7 kB/s."""

_LOG = logging.getLogger("airside.registry")


class Transfers:
    """Bounds the time of each slice, and ends all running transfers at shutdown.

    A disconnected client can resume with a range, here or at another registry.
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
        """Bounds one slice. Raises ConnectionResetError at shutdown, OSError on a stall."""
        if self._stopping:
            raise ConnectionResetError("the registry is shutting down")
        limit = asyncio.timeout(STALL_SECONDS)
        self._limits.add(limit)
        try:
            async with limit:
                yield
        except TimeoutError as exc:
            if self._stopping:
                raise ConnectionResetError("the registry is shutting down") from exc
            raise OSError(f"the client received less than a slice in {STALL_SECONDS:g} s") from exc
        finally:
            self._limits.discard(limit)


class BlobEndsError(OSError):
    """The file of a blob is shorter than it was when its answer began."""


class Gate(Protocol):
    """Says how far a file may be sent: a running fetch, or a file that is being hashed."""

    async def reach(self, offset: int) -> int: ...


class BlobResponse(web.StreamResponse):
    """Sends a part of a blob and closes its file; without a file, sends the headers alone.

    `gate`: says how far the file may be sent, if not all of it. `failed` is told of an error of the
    disk or of the client. Like aiohttp's own file response, this one sends from `prepare`, where
    aiohttp drops the connection silently on a ConnectionError.
    """

    def __init__(
        self,
        part: Part,
        file: BinaryIO | None,
        reads: Executor,
        transfers: Transfers,
        gate: Gate | None = None,
        failed: Callable[[OSError], None] | None = None,
    ) -> None:
        super().__init__(status=part.status, headers=headers_of(part.headers))
        self.content_length = part.count
        self._part = part
        self._file = file
        self._reads = reads
        self._transfers = transfers
        self._gate = gate
        self._failed = failed

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        file, self._file = self._file, None
        if file is None:
            return await super().prepare(request)
        started = time.monotonic()
        try:
            writer = await super().prepare(request)
            await self._send(request, file)
        except ConnectionError as exc:
            _LOG.debug("sending %s to %s ended early: %s", request.path, request.remote, exc)
            _abort(request)
            raise
        except OSError as exc:  # from the disk, or a stalled client
            _LOG.warning("sending %s to %s failed: %r", request.path, request.remote, exc)
            _abort(request)
            if self._failed is not None:
                self._failed(exc)
            raise ConnectionResetError("the transfer failed") from exc
        finally:
            file.close()
        seconds = time.monotonic() - started
        _LOG.debug("%s: sent %d bytes in %.3f s", request.path, self._part.count, seconds)
        return writer

    async def _send(self, request: web.BaseRequest, file: BinaryIO) -> None:
        offset, end = self._part.start, self._part.start + self._part.count
        transport = request.transport
        native = transport is not None and transport.get_extra_info("sslcontext") is None
        throttle, meter = request.get(OUT), request.get(METER)
        slice_bytes = SLICE_BYTES if throttle is None else throttle.slice_bytes
        while offset < end:
            transport = request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client disconnected")
            count = min(slice_bytes, end - offset)
            if self._gate is not None:
                count = min(count, await self._gate.reach(offset) - offset)
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
                raise BlobEndsError(f"the file of the blob ends at byte {offset} of {end}")
            offset += sent
            if meter is not None:
                meter.sent(sent)

    async def _write_chunk(self, file: BinaryIO, offset: int, count: int) -> int:
        def read() -> bytes:
            file.seek(offset)
            return file.read(min(count, CHUNK_BYTES))

        chunk = await asyncio.wrap_future(self._reads.submit(read))
        if chunk:
            await self.write(chunk)
        return len(chunk)


def _abort(request: web.BaseRequest) -> None:
    """Drops the connection at once: a close would wait for a stalled client to read the rest."""
    if request.transport is not None:
        request.transport.abort()


async def _sendfile(transport: asyncio.Transport, file: BinaryIO, offset: int, count: int) -> int:
    if transport.is_closing():  # while a gate or a limit made it wait: a RuntimeError of asyncio
        raise ConnectionResetError("the client disconnected")
    loop = asyncio.get_running_loop()
    return await loop.sendfile(transport, file, offset, count, fallback=False)
