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
_LONGEST_POLL_SECONDS = 0.1

T = TypeVar("T")


def wait_until(
    holds: Callable[[], T],
    what: str | Callable[[], object] = "",
    *,
    poll_seconds: float | None = None,
) -> T:
    """Ask again and again until the answer is true; returns that answer.

    `what` names the condition, or says what was found instead. The pauses are `poll_seconds`, for a
    condition that holds for a moment only; without it they grow with what an answer costs and with
    the time that was waited, so that asking takes little from what is waited for.
    """
    pauses = _Pauses(poll_seconds)
    while not (found := holds()):
        assert not pauses.is_over, _missed(holds, what)
        time.sleep(pauses.next())
    return found


async def wait_until_async(
    holds: Callable[[], T],
    what: str | Callable[[], object] = "",
    *,
    poll_seconds: float | None = None,
) -> T:
    """The same on an event loop."""
    pauses = _Pauses(poll_seconds)
    while not (found := holds()):
        assert not pauses.is_over, _missed(holds, what)
        await asyncio.sleep(pauses.next())
    return found


class _Pauses:
    """The pauses of one wait."""

    def __init__(self, fixed_seconds: float | None) -> None:
        self._fixed_seconds = fixed_seconds
        self._begun = self._asked = time.monotonic()

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._begun + LIMIT_SECONDS

    def next(self) -> float:
        """Returns the seconds until the condition is asked for again."""
        if self._fixed_seconds is not None:
            return self._fixed_seconds
        now = time.monotonic()
        cost_seconds, waited_seconds = now - self._asked, now - self._begun
        pause = max(POLL_SECONDS, 2 * cost_seconds, waited_seconds / 20)
        pause = min(pause, _LONGEST_POLL_SECONDS)
        self._asked = now + pause
        return pause


def _missed(holds: object, what: str | Callable[[], object]) -> str:
    found = what() if callable(what) else what or getattr(holds, "__name__", "the condition")
    return f"not within {LIMIT_SECONDS:g} s: {found}"
