"""The times between the tries to publish an image that failed: ever longer.

A disk that was full for a moment delays an image by seconds, and one that can never be published
costs a try every five minutes. Nothing starts without a sandbox (pause) image: it is tried oftener.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airside.containerd.desired_state import DesiredImage
from airside.containerd.sandbox_image import is_sandbox_name

_FIRST_SECONDS, LONGEST_SECONDS = 10.0, 300.0
_LONGEST_SANDBOX_SECONDS = 30.0
_ALONG = 0.1
"""The part of the time that may be left: images that failed soon after each other go together."""


@dataclass(frozen=True, slots=True)
class _Failure:
    digest: str
    at: float
    seconds: float


class PublishFailures:
    """The failed images of one runtime, since the agent started. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: dict[str, _Failure] = {}
        self._lock = threading.Lock()

    def note(self, desired: DesiredImage) -> float:
        """Notes that a publish failed. Returns the seconds until the next try."""
        tag = desired.tag
        is_sandbox = any(is_sandbox_name(name) for name in desired.names)
        longest = _LONGEST_SANDBOX_SECONDS if is_sandbox else LONGEST_SECONDS
        with self._lock:
            before = self._failures.get(tag.reference)
            again = before is not None and before.digest == tag.digest
            seconds = min(2 * before.seconds, longest) if before and again else _FIRST_SECONDS
            self._failures[tag.reference] = _Failure(tag.digest, self._monotonic(), seconds)
        return seconds

    def left_seconds(self, desired: DesiredImage) -> float:
        """Returns the seconds until the next try; 0: it is due."""
        with self._lock:
            found = self._failures.get(desired.tag.reference)
        if found is None or found.digest != desired.tag.digest:
            return 0.0
        left = found.at + found.seconds - self._monotonic()
        return left if left > _ALONG * found.seconds else 0.0

    def forget(self, desired: DesiredImage) -> None:
        """Notes that a publish ended well."""
        with self._lock:
            self._failures.pop(desired.tag.reference, None)

    def keep_only(self, references: Iterable[str]) -> None:
        """Drops what no tag has any more."""
        with self._lock:
            for reference in self._failures.keys() - set(references):
                del self._failures[reference]
