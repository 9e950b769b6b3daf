"""Turns at a scarce resource, shared fairly between clients. Async; for one event loop.

What always holds: a turn that becomes free goes to the client that waited longest for its own next
turn, so who waits behind others' thousands waits for one turn of each client; a client's own
requests are served in the order of their arrival.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MAX_WAITING = 1024
MAX_WAITING_OF_CLIENT = 256
"""As many connections as a client may have by default: then none of its requests is refused."""
_ALWAYS_OF_CLIENT = 4
"""What a client may have waiting although others have taken all places."""


class Turns:
    """`count` turns at a time."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._total = 0

    def has_room(self, client: str) -> bool:
        """Returns True if one more request of this client may wait."""
        own = len(self._waiting.get(client, ()))
        if own < _ALWAYS_OF_CLIENT:
            return True
        return own < MAX_WAITING_OF_CLIENT and self._total < MAX_WAITING

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Waits for a turn, and holds it for as long as the context lasts."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._next()

    async def _wait(self, client: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._total += 1
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given the turn at this moment
                self._next()
            raise

    def _next(self) -> None:
        while self._waiting:
            client, queue = next(iter(self._waiting.items()))
            turn = queue.popleft()
            self._total -= 1
            if queue:
                self._waiting.move_to_end(client)
            else:
                del self._waiting[client]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
