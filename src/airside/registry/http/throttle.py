"""Bandwidth limits, and a lower limit for how slowly a client may send a body. Async.

`registry.rules.token_bucket` computes how long to wait; this module waits. A request has a
`Throttle` only if limits are set: without one, `sendfile` moves whole slices.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from airside.core.errors import RequestInvalidError
from airside.registry.rules.token_bucket import Shares

BLOCK_BYTES = 64 * 1024
"""Bytes of a body that a client must send within the time that the reader allows."""


class Throttle:
    """The limits of one direction. `clock` is monotonic; tests replace it and `sleep`."""

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
        """Waits until `count` bytes may be sent or read."""
        wait = self._shares.take(client or "", count, self._clock())
        if wait:
            await self._sleep(wait)


OUT = web.RequestKey("pace_out", Throttle)
IN = web.RequestKey("pace_in", Throttle)


def throttle_of(total_rate: int, client_rate: int) -> Throttle | None:
    """A throttle for the rates in bytes per second; None if both are 0, unlimited."""
    return Throttle(Shares(total_rate, client_rate)) if total_rate or client_rate else None


async def iter_body(request: web.BaseRequest, seconds: float) -> AsyncIterator[bytes]:
    """Yields the body, within the bandwidth limits.

    Raises RequestInvalidError if the client sends less than a block in `seconds`. Time that the
    reader or a limit takes does not count.
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
                f"the client sent less than {BLOCK_BYTES} bytes of the body in {seconds:g} s"
            ) from exc
        if not piece:
            return
        left, got = left - (clock() - begun), got + len(piece)
        if got >= BLOCK_BYTES:
            got, left = 0, seconds
        if throttle is not None:
            await throttle.take(request.remote, len(piece))
        yield piece
