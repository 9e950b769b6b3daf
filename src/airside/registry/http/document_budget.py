"""The memory of all manifests that are parsed and recorded at the same time. Async.

Parsed JSON takes many times its text, so a request reserves what its document may take before a
thread reads it. Requests get their turn in the order in which they came.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from airside.core.errors import TooManyError

WAIT_SECONDS = 30.0
"""Time after which a waiting request is answered with a 429."""


class DocumentBudget:
    """A number of bytes. For one event loop."""

    def __init__(self, total_bytes: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self._total_bytes, self._wait_seconds = max(total_bytes, 1), wait_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.held_bytes = 0

    @asynccontextmanager
    async def reserve(self, count: int) -> AsyncIterator[None]:
        """Holds so many bytes, or all for more than there are. Raises TooManyError."""
        amount = min(count, self._total_bytes)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        self._grant()
        try:
            await self._wait(turn)
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self.held_bytes -= amount
            else:
                turn.cancel()
            self._grant()

    async def _wait(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            return
        done, _ = await asyncio.wait([turn], timeout=self._wait_seconds)
        if not done:
            raise TooManyError("the registry works on other large manifests: send it again")

    def _grant(self) -> None:
        """Gives those that wait longest their turn, as far as the bytes reach."""
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.cancelled():
                if self.held_bytes + amount > self._total_bytes:
                    return
                self.held_bytes += amount
                turn.set_result(None)
            self._waiting.popleft()
