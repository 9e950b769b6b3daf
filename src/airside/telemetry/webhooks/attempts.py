"""When a message is sent again, and when it is given up. Pure.

Always holds: the delay doubles up to `LONGEST_SECONDS` and is spread, so that many nodes do not
return at the same moment; a receiver that says how long to wait is heard; a message that the
receiver refuses for what it is does not keep those behind it.
"""

from dataclasses import dataclass

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 300.0
KEEP_SECONDS = 24 * 3600.0
"""A message that could not be delivered for this time is dropped."""
MOST_REFUSALS = 5
"""Answers that refuse a message for what it is, after which it is dropped."""
_REFUSED = frozenset({400, 413, 415, 422})
_LEAST_PART = 0.5


@dataclass(slots=True)
class Attempts:
    """The attempts to deliver one message. `since`: when the first began, in seconds."""

    since: float
    count: int = 0
    refusals: int = 0

    def failed(self, status: int | None) -> None:
        """Notes a failed attempt; `status`: the answer, None if there was none."""
        self.count += 1
        self.refusals += status in _REFUSED

    def is_over(self, now: float) -> bool:
        """Returns True if the message is given up."""
        return self.refusals >= MOST_REFUSALS or now - self.since >= KEEP_SECONDS

    def delay_seconds(self, spread: float, retry_after: float = 0.0) -> float:
        """Returns the time until the next attempt. `spread`: a random number of 0 to 1."""
        doubled = FIRST_SECONDS * float(2 ** min(self.count - 1, 16))
        longest = min(doubled, LONGEST_SECONDS)
        return max(longest * (_LEAST_PART + _LEAST_PART * spread), min(retry_after, KEEP_SECONDS))
