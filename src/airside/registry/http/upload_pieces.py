"""Collects the body of an upload in pieces, each written while the next is received. Async.

A piece has a megabyte, so that few threads are woken. Clients that stall in the middle of pieces
must not hold a megabyte each: above `MOST_BYTES` of all uploads together, pieces are small.
"""

import asyncio
from collections.abc import Callable, Sequence

from airside.core.settings import KIB, MIB

PIECE_BYTES, SMALL_PIECE_BYTES = MIB, 128 * KIB
MOST_BYTES = 32 * MIB
"""Sixteen uploads at full speed hold as much."""

Write = Callable[[Sequence[bytes]], asyncio.Future[None]]


class PieceMemory:
    """The bytes of all uploads that are received and not written. For one event loop."""

    def __init__(self) -> None:
        self.held_bytes = 0

    @property
    def piece_bytes(self) -> int:
        return PIECE_BYTES if self.held_bytes <= MOST_BYTES else SMALL_PIECE_BYTES

    def release(self, count: int) -> None:
        self.held_bytes -= count


class UploadPieces:
    """The pieces of one body. Always `close` it."""

    def __init__(self, memory: PieceMemory, write: Write) -> None:
        self._memory, self._write = memory, write
        self._pieces: list[bytes] = []
        self._pending_bytes = 0
        self._writing: asyncio.Future[None] | None = None

    async def add(self, data: bytes) -> None:
        """Adds received bytes. Raises what writing an earlier piece raises."""
        self._pieces.append(data)
        self._pending_bytes += len(data)
        self._memory.held_bytes += len(data)
        if self._pending_bytes >= self._memory.piece_bytes:
            await self._end_writing()
            self._begin_writing()

    async def close(self) -> None:
        """Writes the rest. Raises what writing raises; then the rest is dropped."""
        try:
            await self._end_writing()
            if self._pieces:
                self._begin_writing()
                await self._end_writing()
        finally:
            self._memory.held_bytes -= self._pending_bytes

    def _begin_writing(self) -> None:
        count, self._pending_bytes = self._pending_bytes, 0
        self._writing, self._pieces = self._write(self._pieces), []
        self._writing.add_done_callback(lambda _: self._memory.release(count))

    async def _end_writing(self) -> None:
        if self._writing is not None:
            await self._writing
            self._writing = None
