"""Clocks that tests set."""

from collections.abc import Callable

from airside.core.clock import Clock


def believed(now: Callable[[], float]) -> Clock:
    """A clock that is believed at once wherever the test moves it: time passed, nothing jumped."""
    return Clock(wall=now, ticks=now)
