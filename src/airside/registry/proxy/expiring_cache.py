"""Results that hold for some seconds, such as a tag's freshness or an upstream's refusal."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

MAX_ENTRIES = 10_000


class ExpiringCache:
    """Values by key, each with an expiry; bounded, the oldest entry is dropped first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[object, tuple[float, Any]] = OrderedDict()

    def get(self, key: object) -> Any:
        """The value; None if the key is unknown or its value has expired."""
        until, value = self._entries.get(key, (0.0, None))
        return value if self._clock() < until else None

    def put(self, key: object, value: object, seconds: float) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (self._clock() + seconds, value)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
