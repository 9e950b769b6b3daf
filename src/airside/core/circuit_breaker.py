"""A circuit breaker: after a call that took too long, calls are refused for a while.

Only the first caller waits for a service that does not answer. Afterwards one call is tried after
each pause.
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
        """Returns True if a call may be tried. While open: one call after each pause."""
        with self._lock:
            now = self._clock()
            if not self._opened:
                return True
            if now < self._until:
                return False
            self._until = now + self._pause
            return True

    def failed(self) -> bool:
        """Record that a call took too long. Returns True if the breaker was closed."""
        with self._lock:
            news, self._opened = not self._opened, True
            self._until = self._clock() + self._pause
            return news

    def worked(self) -> bool:
        """Record that a call was answered. Returns True if the breaker was open."""
        with self._lock:
            news, self._opened = self._opened, False
            return news
