"""Waiting for a condition: one helper, one generous limit.

The limit only ends a test that would never end. That something happens *soon* is measured by
`make bench`, never asserted by a test; that nothing happens is told by an event, a counter or
quiescence (`Agent.wait_idle`), never by a pause.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_SECONDS = 180.0
POLL_SECONDS = 0.02

T = TypeVar("T")


def wait_until(
    holds: Callable[[], T],
    what: str | Callable[[], object] = "",
    *,
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """Ask again and again until the answer is true; returns that answer.

    `what` names the condition, or says what was found instead.
    """
    end = time.monotonic() + LIMIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < end, _missed(holds, what)
        time.sleep(poll_seconds)
    return found


async def wait_until_async(
    holds: Callable[[], T],
    what: str | Callable[[], object] = "",
    *,
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """The same on an event loop."""
    end = time.monotonic() + LIMIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < end, _missed(holds, what)
        await asyncio.sleep(poll_seconds)
    return found


def _missed(holds: object, what: str | Callable[[], object]) -> str:
    found = what() if callable(what) else what or getattr(holds, "__name__", "the condition")
    return f"not within {LIMIT_SECONDS:g} s: {found}"
