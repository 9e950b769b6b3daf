"""The time that is recorded, and the time by which ages are counted. Thread-safe.

The clock of a host may lie: 1970 at boot without a battery, years ahead until NTP corrects it. What
always holds:

- No recorded time is before the last one that an earlier process noted.
- Ages count from the last noted time on, by the kernel's clock that never jumps. The wall clock is
  believed while it runs beside that count. After a jump, and after a start at another time than
  expected, it is believed only when it has been steady for a while, and never backwards.
- What was recorded while the clock was behind is corrected when the jump is believed
  (`Correction`): else it would be as old as the jump is long.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

STEADY_SECONDS = 600.0
"""A wall clock that jumped is believed after it was steady for this time."""
BELIEVED_SECONDS = 600.0
"""A start at most this long after the last noted time is believed at once: a usual restart."""
_SLACK_SECONDS = 2.0
_RATE = 0.1
"""NTP corrects a clock by running it faster or slower, chrony by up to 8 %."""


def boot_seconds() -> float:
    """Returns the seconds since the boot, with those of a suspended system."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Correction:
    """A jump to believe: add `by_seconds` to what was recorded between `since` and `until`."""

    since: float
    until: float
    by_seconds: float

    @property
    def now(self) -> float:
        """The time after the correction."""
        return self.until + self.by_seconds


class Clock:
    """Tells the time in seconds since 1970. `noted`: what an earlier process noted last."""

    def __init__(
        self,
        noted: float | None = None,
        *,
        wall: Callable[[], float] = time.time,
        ticks: Callable[[], float] = boot_seconds,
        steady_seconds: float = STEADY_SECONDS,
    ) -> None:
        self._wall, self._ticks, self._steady_seconds = wall, ticks, steady_seconds
        self._lock = threading.Lock()
        self._seen_at = self._steady_since = ticks()
        now = wall()
        self._seen = now - self._seen_at
        self._believed = self._seen
        if noted is not None and not 0.0 <= now - noted <= BELIEVED_SECONDS:
            self._believed = noted - self._seen_at
        self._since = self._seen_at + self._believed

    def __call__(self) -> float:
        """Returns the time to record: the wall clock's, but never before what is believed."""
        with self._lock:
            ticks = self._look()
            return ticks + max(self._seen, self._believed)

    def ages(self) -> float:
        """Returns the time by which ages are counted."""
        with self._lock:
            return self._look() + self._believed

    @property
    def behind_seconds(self) -> float:
        """How far the wall clock is behind the believed time; negative if it is ahead."""
        with self._lock:
            self._look()
            return self._believed - self._seen

    def pending(self) -> Correction | None:
        """Returns the jump that may be believed now: correct the records, then `believe` it."""
        with self._lock:
            ticks = self._look()
            is_steady = ticks - self._steady_since >= self._steady_seconds
            ahead = self._seen - self._believed
            if not is_steady or ahead <= _SLACK_SECONDS:
                return None
            return Correction(self._since, ticks + self._believed, ahead)

    def believe(self, correction: Correction) -> None:
        """Believes a jump whose records were corrected."""
        with self._lock:
            self._believed += correction.by_seconds
            self._since = self._look() + self._believed

    def _look(self) -> float:
        """Reads both clocks. Returns the ticks."""
        ticks = self._ticks()
        seen = self._wall() - ticks
        allowed = _SLACK_SECONDS + _RATE * (ticks - self._seen_at)
        if abs(seen - self._seen) > allowed:
            self._steady_since = ticks
        if abs(seen - self._believed) <= allowed:
            self._believed = seen
        self._seen, self._seen_at = seen, ticks
        return ticks
