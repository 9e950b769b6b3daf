"""Bytes no faster than the caps, and bodies no slower than a client of good will. Async.

`registry.buckets` says how long to wait; here is the waiting. A request has its `Pace` only where
caps are set: without it `sendfile` goes on in whole slices.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from airside.errors import RequestInvalidError
from airside.registry.buckets import Shares

BLOCK_BYTES = 64 * 1024
BLOCK_SECONDS = 60.0
"""A body of which a block doesn't come in this time is given up; this allows 1 kB/s."""


class Pace:
    """The caps of one direction. `clock` only grows; both are for tests."""

    def __init__(
        self,
        shares: Shares,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._shares, self._clock, self._sleep = shares, clock, sleep
        self.slice_bytes = shares.slice_bytes

    async def take(self, client: str | None, count: int) -> None:
        """Wait until so many bytes may go."""
        wait = self._shares.take(client or "", count, self._clock())
        if wait:
            await self._sleep(wait)


OUT = web.RequestKey("pace_out", Pace)
IN = web.RequestKey("pace_in", Pace)


def pace_of(total_rate: int, client_rate: int) -> Pace | None:
    """None where neither is capped."""
    return Pace(Shares(total_rate, client_rate)) if total_rate or client_rate else None


async def iter_body(
    request: web.BaseRequest, limit_bytes: int, *, seconds: float = BLOCK_SECONDS
) -> AsyncIterator[bytes]:
    """The body in blocks, by the caps. Raises RequestInvalidError if it is too large or slow."""
    pace, total = request.get(IN), 0
    while block := await _block(request, seconds):
        total += len(block)
        if total > limit_bytes:
            raise RequestInvalidError(f"the body is larger than {limit_bytes} bytes")
        if pace is not None:
            await pace.take(request.remote, len(block))
        yield block


async def _block(request: web.BaseRequest, seconds: float) -> bytes:
    block = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while len(block) < BLOCK_BYTES and (chunk := await request.content.readany()):
                block += chunk
    except TimeoutError as exc:
        raise RequestInvalidError(
            f"less than {BLOCK_BYTES} bytes of the body came in {seconds:g} s"
        ) from exc
    return bytes(block)
