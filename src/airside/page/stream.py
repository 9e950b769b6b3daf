"""Tells open pages that something changed, as server-sent events. Async.

What always holds: without an open page nothing is computed. One task compares the agent's state
for all pages, without the catalog; the catalog is read when a page then asks for itself. Pages are
bounded, and their streams end when the server stops.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable

from aiohttp import web

from airside.page.responses import HEADERS

MOST_STREAMS = 64
LOOK_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
"""Within this time a browser that went away without a word gives its place to another."""
_RETRY_MILLISECONDS = 3000


State = Callable[[], Awaitable[tuple[Hashable, Hashable]]]
"""Returns what all pages show, and the progress of imports. Must not block."""


class ChangeStream:
    """The streams of all open pages. Belongs to the event loop's thread."""

    def __init__(self, state: State) -> None:
        """`state`: compared every `LOOK_SECONDS` while a page is open."""
        self._state = state
        self._number = self._changes = 0
        self._changed = asyncio.Condition()
        self._stopping = False
        self._open = 0
        self._looking: asyncio.Task[None] | None = None

    @property
    def open(self) -> int:
        """The number of open streams."""
        return self._open

    async def stop(self, _app: web.Application) -> None:
        """Ends all streams."""
        self._stopping = True
        await self._notify()

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Streams `change` and `progress` events until the browser or the server closes."""
        if self._open >= MOST_STREAMS:
            headers = {**HEADERS, "Retry-After": "30"}
            return web.Response(status=503, headers=headers, text="too many open pages\n")
        response = web.StreamResponse(
            headers={**HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        self._open += 1
        try:
            await response.prepare(request)
            self._look()
            await response.write(f"retry: {_RETRY_MILLISECONDS}\n\n".encode())
            with contextlib.suppress(ConnectionResetError):
                await self._send(response)
        finally:
            self._open -= 1
            await self._rest()
        return response

    async def _send(self, response: web.StreamResponse) -> None:
        seen, changes = self._number, self._changes
        while not self._stopping:
            if await self._wait(seen):
                event = "progress" if changes == self._changes else "change"
                seen, changes = self._number, self._changes
                await response.write(f"event: {event}\ndata: {seen}\n\n".encode())
            elif not self._stopping:
                await response.write(b":\n\n")

    async def _wait(self, seen: int) -> bool:
        """Returns True once something changed, False after a time of silence."""
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._changed.wait_for(lambda: self._number != seen or self._stopping)
        return self._number != seen and not self._stopping

    def _look(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(self._compare())

    async def _rest(self) -> None:
        """Ends the comparing when the last page was closed."""
        if not self._open and self._looking is not None:
            looking, self._looking = self._looking, None
            looking.cancel()
            await asyncio.wait([looking])

    async def _compare(self) -> None:
        before = await self._state()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = await self._state()
            if now != before:
                self._changes += now[0] != before[0]
                self._number += 1
                before = now
                await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
