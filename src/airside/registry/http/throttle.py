"""Bytes no faster than the caps, and bodies no slower than a client of good will. Async.

`registry.buckets` says how long to wait; here is the waiting. A request has its `Throttle` only
where caps are set: without it `sendfile` goes on in whole slices.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from airside.core.errors import RequestInvalidError
from airside.registry.rules.token_bucket import Shares

BLOCK_BYTES = 64 * 1024
"""What must come of a body in the time that its reader gives."""


class Throttle:
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


OUT = web.RequestKey("pace_out", Throttle)
IN = web.RequestKey("pace_in", Throttle)


def throttle_of(total_rate: int, client_rate: int) -> Throttle | None:
    """None where neither is capped."""
    return Throttle(Shares(total_rate, client_rate)) if total_rate or client_rate else None


async def iter_body(request: web.BaseRequest, seconds: float) -> AsyncIterator[bytes]:
    """The body as it comes, within the caps.

    Raises RequestInvalidError where less than a block comes in so many seconds, those not counted
    in which the reader or a cap held it up.
    """
    throttle, got, left = request.get(IN), 0, seconds
    clock = asyncio.get_running_loop().time
    while True:
        begun = clock()
        try:
            async with asyncio.timeout(left):
                piece = await request.content.readany()
        except TimeoutError as exc:
            raise RequestInvalidError(
                f"less than {BLOCK_BYTES} bytes of the body came in {seconds:g} s"
            ) from exc
        if not piece:
            return
        left, got = left - (clock() - begun), got + len(piece)
        if got >= BLOCK_BYTES:
            got, left = 0, seconds
        if throttle is not None:
            await throttle.take(request.remote, len(piece))
        yield piece
