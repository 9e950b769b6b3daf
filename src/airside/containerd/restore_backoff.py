"""The back-off for images that somebody removes or moves again and again."""

from collections.abc import Callable
from dataclasses import dataclass

_AGAIN_SECONDS = 600.0
"""An image that is removed again within this time waits longer for its next restore."""
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 60.0, 3600.0


@dataclass(slots=True)
class _Restored:
    """The recent restores of one tag: how many, and when the last was."""

    count: int = 0
    at: float = 0.0

    @property
    def wait_seconds(self) -> float:
        return min(_FIRST_WAIT_SECONDS * 2.0 ** max(self.count - 2, 0), _LONGEST_WAIT_SECONDS)


@dataclass(frozen=True, slots=True)
class Wait:
    """The back-off after the last restore, and the part of it that is left."""

    seconds: float
    left_seconds: float


class RestoreBackoff:
    """The back-off of the tags of one runtime. Used by one thread at a time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._restored: dict[str, _Restored] = {}

    def attempt(self, reference: str, *, at_once: bool = False) -> Wait | None:
        """Counts a restore that begins now. Returns the wait, uncounted, if it is too soon.

        `at_once`: it is never too soon.
        """
        now = self._monotonic()
        restored = self._restored.setdefault(reference, _Restored())
        since = now - restored.at
        if restored.count and since > max(_AGAIN_SECONDS, restored.wait_seconds):
            restored.count = 0
        if restored.count >= 2 and since < restored.wait_seconds and not at_once:
            return Wait(restored.wait_seconds, restored.wait_seconds - since)
        restored.count += 1
        restored.at = now
        return None
