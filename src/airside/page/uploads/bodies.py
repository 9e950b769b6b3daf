"""Streams the body of a request, or one file of an HTML form, into an upload. Async.

A piece of about a megabyte is written by a worker thread while the next one is received: memory
does not grow with the archive, and the event loop never waits for the disk.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor

from aiohttp import BodyPartReader, ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from airside.core.errors import RequestInvalidError
from airside.core.settings import KIB
from airside.page.uploads.archive_upload import ArchiveUpload
from airside.page.uploads.archive_uploads import ArchiveUploads
from airside.registry.http.throttle import IN, iter_body
from airside.registry.http.upload_pieces import PieceMemory, UploadPieces

STALL_SECONDS = 60.0
"""A client that sends less than 64 KiB in this time is disconnected; this allows 1 kB/s."""
_PART_BYTES = 256 * KIB
BROKEN = (ConnectionError, ClientError, HttpProcessingError, web.RequestPayloadError, EOFError)


class UploadBodies:
    """Writes bodies to uploads in `pool`."""

    def __init__(self, uploads: ArchiveUploads, pool: Executor) -> None:
        self._uploads, self._pool, self._memory = uploads, pool, PieceMemory()

    async def receive(self, body: AsyncIterator[bytes], upload: ArchiveUpload) -> None:
        """Appends a body; also what came of one that broke off.

        Raises RequestInvalidError for such a one, and what writing raises.
        """
        loop = asyncio.get_running_loop()
        running: set[asyncio.Future[None]] = set()

        def write(pieces: Sequence[bytes]) -> asyncio.Future[None]:
            future = loop.run_in_executor(self._pool, self._uploads.write, upload, pieces)
            running.add(future)
            future.add_done_callback(running.discard)
            return asyncio.shield(future)

        pieces = UploadPieces(self._memory, write)
        try:
            async for data in body:
                await pieces.add(data)
        finally:
            try:
                await pieces.close()
            finally:  # a cancelled request must not leave a thread that writes
                while running:
                    await asyncio.wait(running)


async def body_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yields the body of a request. Raises RequestInvalidError if it breaks off."""
    try:
        async for piece in iter_body(request, STALL_SECONDS):
            yield piece
    except BROKEN as exc:
        raise RequestInvalidError(f"the connection broke in the middle: {exc}") from exc


async def bytes_of(request: web.Request, part: BodyPartReader) -> AsyncIterator[bytes]:
    """Yields a file of a form. Raises RequestInvalidError if it breaks off or stalls."""
    throttle = request.get(IN)
    try:
        while True:
            async with asyncio.timeout(STALL_SECONDS):
                piece = await part.read_chunk(_PART_BYTES)
            if not piece:
                return
            if throttle is not None:
                await throttle.take(request.remote, len(piece))
            yield bytes(piece)
    except (*BROKEN, ValueError) as exc:
        raise RequestInvalidError(f"the form broke off in the middle: {exc}") from exc
    except TimeoutError as exc:
        raise RequestInvalidError(f"no byte of the form came in {STALL_SECONDS:g} s") from exc
