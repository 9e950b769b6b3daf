"""One request at a time works on an upload, the newest first. Async.

A client whose connection broke comes back before the server notices: the older request then still
waits for bytes that never come. So a newer request ends the older one, whose bytes are kept.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Turns:
    """The requests that work on uploads, by their ID. For one event loop."""

    def __init__(self) -> None:
        self._working: dict[str, asyncio.Task[object]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    @asynccontextmanager
    async def take(self, upload_id: str) -> AsyncIterator[None]:
        """Ends the request that works on the upload and waits until it is done."""
        self._waiting[upload_id] = self._waiting.get(upload_id, 0) + 1
        lock = self._locks.setdefault(upload_id, asyncio.Lock())
        older = self._working.pop(upload_id, None)  # it is cancelled once
        if older is not None:
            older.cancel()
        try:
            async with lock:
                task = asyncio.current_task()
                assert task is not None
                self._working[upload_id] = task
                try:
                    yield
                finally:
                    if self._working.get(upload_id) is task:
                        del self._working[upload_id]
        finally:
            self._waiting[upload_id] -= 1
            if not self._waiting[upload_id]:
                with suppress(KeyError):
                    del self._waiting[upload_id], self._locks[upload_id]
