"""A circuit breaker: after a call that took too long, none is tried for a while.

Whoever waits for the one who does not answer, waits once. Afterwards one at a time may try.
"""

import threading
from collections.abc import Callable


class CircuitBreaker:
    """Closed at first. Thread-safe; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float], pause_seconds: float) -> None:
        self._clock, self._pause = clock, pause_seconds
        self._lock = threading.Lock()
        self._opened = False
        self._until = 0.0

    def allows(self) -> bool:
        """Whether a call may be tried. While open: one, each time that the pause is over."""
        with self._lock:
            now = self._clock()
            if not self._opened:
                return True
            if now < self._until:
                return False
            self._until = now + self._pause
            return True

    def failed(self) -> bool:
        """A call took too long; True if that is news."""
        with self._lock:
            news, self._opened = not self._opened, True
            self._until = self._clock() + self._pause
            return news

    def worked(self) -> bool:
        """A call was answered; True if that is news."""
        with self._lock:
            news, self._opened = self._opened, False
            return news
