"""Reserves the memory of documents for requests. Async.

The account is `core.memory_account`, which imports, publishing and requests share. A request that
does not get its turn in time is refused.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from airside.core.errors import TooManyError
from airside.core.memory_account import MemoryAccount, Turn

WAIT_SECONDS = 30.0
"""Time after which a waiting request is answered with a 429."""


class DocumentBudget:
    """The account for one event loop."""

    def __init__(self, memory: MemoryAccount, wait_seconds: float = WAIT_SECONDS) -> None:
        self._memory, self._wait_seconds = memory, wait_seconds

    @asynccontextmanager
    async def reserve(self, count: int) -> AsyncIterator[None]:
        """Holds so many bytes, or all for more than there are. Raises TooManyError."""
        turn = self._memory.ask(count)
        try:
            await self._wait(turn)
            yield
        finally:
            self._memory.give_back(turn)

    async def _wait(self, turn: Turn) -> None:
        if turn.granted.done():
            return
        await asyncio.wait([asyncio.wrap_future(turn.granted)], timeout=self._wait_seconds)
        if not turn.granted.done():
            raise TooManyError("the registry works on other large documents: send it again")
