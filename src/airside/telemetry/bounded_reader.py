"""Reads a value that may block, such as one on a disk that hangs: in a thread, for a bounded time.

Always holds: at most one thread reads, a value is read again after `FRESH_SECONDS` at the earliest,
and nobody waits for a read that is overdue already. A daemon thread, so that a hanging disk does
not keep the process from its end.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from airside.core.errors import AirsideError

log = logging.getLogger("airside.telemetry")

T = TypeVar("T")

WAIT_SECONDS = 2.0
FRESH_SECONDS = 1.0


class BoundedReader(Generic[T]):
    """One value. For one event loop."""

    def __init__(
        self,
        read: Callable[[], T],
        *,
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._wait_seconds, self._clock = read, wait_seconds, clock
        self._running: asyncio.Future[T | None] | None = None
        self._started_at = self._read_at = float("-inf")
        self._value: T | None = None

    async def get(self) -> T | None:
        """Returns the value; None if it cannot be read, or not in time."""
        now = self._clock()
        if self._running is None:
            if now - self._read_at < FRESH_SECONDS:
                return self._value
            self._running, self._started_at = self._start(), now
        left = self._wait_seconds - (now - self._started_at)
        running = self._running
        if left > 0:
            await asyncio.wait([running], timeout=left)
        return running.result() if running.done() else None

    @property
    def hangs(self) -> bool:
        """True while a read is overdue."""
        return self._running is not None and self._clock() - self._started_at >= self._wait_seconds

    def _start(self) -> "asyncio.Future[T | None]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T | None] = loop.create_future()

        def work() -> None:
            try:
                value: T | None = self._read()
            except AirsideError as exc:
                log.debug("not read: %s", exc.message)
                value = None
            except Exception:  # a bug: this value is missing, the others are not
                log.exception("a value could not be read")
                value = None
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._ended, future, value)

        threading.Thread(target=work, name="telemetry", daemon=True).start()
        return future

    def _ended(self, future: "asyncio.Future[T | None]", value: T | None) -> None:
        self._running, self._value, self._read_at = None, value, self._clock()
        if not future.done():
            future.set_result(value)
