"""How soon an image is put back that somebody removes or moves again and again."""

from collections.abc import Callable
from dataclasses import dataclass

_AGAIN_SECONDS = 600.0
"""An image that is removed again within this time is put back ever later."""
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 60.0, 3600.0


@dataclass(slots=True)
class _Restored:
    """How often a tag was put back lately."""

    count: int = 0
    at: float = 0.0

    @property
    def wait_seconds(self) -> float:
        return min(_FIRST_WAIT_SECONDS * 2.0 ** max(self.count - 2, 0), _LONGEST_WAIT_SECONDS)


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds after the last time, and those that are left of them."""

    seconds: float
    left_seconds: float


class RestoreBackoff:
    """The back-off of the tags of one runtime. One thread at a time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._restored: dict[str, _Restored] = {}

    def attempt(self, reference: str) -> Wait | None:
        """Count that a tag is put back now; or how long it has to wait, and it is not counted."""
        now = self._monotonic()
        restored = self._restored.setdefault(reference, _Restored())
        since = now - restored.at
        if restored.count and since > max(_AGAIN_SECONDS, restored.wait_seconds):
            restored.count = 0
        if restored.count >= 2 and since < restored.wait_seconds:
            return Wait(restored.wait_seconds, restored.wait_seconds - since)
        restored.count += 1
        restored.at = now
        return None
