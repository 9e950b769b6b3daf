"""Reads of catalog and store, off the event loop, and not for longer than a client can wait.

A disk that hangs keeps the threads that read it. So what takes too long is given up, and while it
hangs nothing is begun but one attempt now and then: everything else is late at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from airside.core.circuit_breaker import Breaker
from airside.core.errors import AirsideError, OverdueError

Result = TypeVar("Result")

PAUSE_SECONDS = 5.0
_LOG = logging.getLogger("airside.registry")


class DeadlinePool:
    """A pool of threads; with 0 seconds it may take any time."""

    def __init__(
        self, pool: Executor, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pool = pool
        self._seconds = seconds or None
        self._breaker = Breaker(clock, PAUSE_SECONDS)

    async def run(
        self,
        job: Callable[..., Result],
        *args: object,
        close: Callable[[Result], None] | None = None,
    ) -> Result:
        """Run a job. If nobody waits for it any more, `close` gets what it still returns.

        Raises OverdueError.
        """
        if not self._breaker.allows():
            raise OverdueError("the disk does not answer")
        future = self.pool.submit(job, *args)
        try:
            async with asyncio.timeout(self._seconds):
                result = await _result(future, close)
        except TimeoutError as exc:
            if self._breaker.failed():
                _LOG.warning(
                    "catalog or store do not answer within %g s (answer_seconds): pulls are sent "
                    "on to the next host",
                    self._seconds,
                )
            raise OverdueError("the disk does not answer") from exc
        except AirsideError:
            self._answered()
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        if self._breaker.worked():
            _LOG.warning("catalog and store answer again")


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
