"""Reads of catalog and store, off the event loop and within a deadline.

A hanging disk blocks every thread that reads it. A read past its deadline is abandoned; while the
disk hangs, only one attempt every `PAUSE_SECONDS` starts, and all other reads fail at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from airside.core.circuit_breaker import CircuitBreaker
from airside.core.errors import AirsideError, OverdueError

Result = TypeVar("Result")

PAUSE_SECONDS = 5.0
_LOG = logging.getLogger("airside.registry")


class DeadlinePool:
    """A pool of threads with a deadline in seconds; 0: none. For one event loop."""

    def __init__(
        self, pool: Executor, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pool = pool
        self._seconds = seconds or None
        self._breaker = CircuitBreaker(clock, PAUSE_SECONDS)

    async def run(
        self,
        job: Callable[..., Result],
        *args: object,
        close: Callable[[Result], None] | None = None,
    ) -> Result:
        """Runs a job. Passes its result to `close` if the caller no longer waits for it.

        Raises OverdueError past the deadline, and at once while the disk hangs.
        """
        if not self._breaker.allows():
            raise OverdueError("the disk of the registry does not respond")
        future = self.pool.submit(job, *args)
        try:
            async with asyncio.timeout(self._seconds):
                result = await _result(future, close)
        except TimeoutError as exc:
            if self._breaker.failed():
                _LOG.warning(
                    "catalog or store did not answer within %g s (answer_seconds): pulls get a 404 "
                    "and use their next host; retrying every %g s",
                    self._seconds,
                    PAUSE_SECONDS,
                )
            raise OverdueError("the disk of the registry does not respond") from exc
        except AirsideError:
            self._answered()
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        if self._breaker.worked():
            _LOG.warning("catalog and store answer again: pulls are served")


async def _result(future: Future[Result], close: Callable[[Result], None] | None) -> Result:
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if close is not None:
            future.add_done_callback(_closing(close))
        raise


def _closing(close: Callable[[Result], None]) -> Callable[[Future[Result]], None]:
    def done(future: Future[Result]) -> None:
        if not future.cancelled() and future.exception() is None:
            close(future.result())

    return done
