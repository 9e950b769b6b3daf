"""One limit on the bytes per second of all that share it. Blocking; thread-safe."""

import threading
import time
from collections.abc import Callable

_STEP_SECONDS = 0.1


class Bandwidth:
    """Each user calls `take` after it read bytes, and waits until the rate allows them.

    From the first byte after a pause on, n bytes take at least n / `bytes_per_second` seconds; a
    pause is not made up for. 0: no limit. `clock` counts seconds and never goes back.
    """

    def __init__(
        self,
        bytes_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = bytes_per_second, clock, sleep
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, stop: Callable[[], bool]) -> None:
        """Returns once `count` more bytes are due, first come first served; soon after a stop."""
        if not self._rate or count <= 0:
            return
        with self._lock:
            self._free_at = due = max(self._free_at, self._clock()) + count / self._rate
        while (left := due - self._clock()) > 0 and not stop():
            self._sleep(min(left, _STEP_SECONDS))

    def counted(
        self, progress: Callable[[int, int], None], stop: Callable[[], bool]
    ) -> Callable[[int, int], None]:
        """Returns a progress of one archive (bytes done, total bytes) that takes what it counts."""
        if not self._rate:
            return progress
        lock, counted = threading.Lock(), 0

        def take(done: int, total: int) -> None:
            nonlocal counted
            progress(done, total)
            with lock:  # several members of an archive are read at once
                count, counted = done - counted, max(done, counted)
            self.take(count, stop)

        return take
