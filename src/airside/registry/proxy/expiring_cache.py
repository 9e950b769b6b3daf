"""Results that hold for some seconds, such as a tag's freshness or an upstream's refusal."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from airside.core.settings import MIB

MAX_ENTRIES = 10_000
MAX_BYTES = 4 * MIB


class ExpiringCache:
    """Values by key, each with an expiry; bounded, the oldest entries are dropped first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[object, tuple[float, Any, int]] = OrderedDict()
        self._size_bytes = 0

    def get(self, key: object) -> Any:
        """The value; None if the key is unknown or its value has expired."""
        until, value, _ = self._entries.get(key, (0.0, None, 0))
        return value if self._clock() < until else None

    def put(self, key: object, value: object, seconds: float, size_bytes: int = 0) -> None:
        """`size_bytes`: the memory of a value that is not small."""
        _, _, before = self._entries.pop(key, (0.0, None, 0))
        self._entries[key] = (self._clock() + seconds, value, size_bytes)
        self._size_bytes += size_bytes - before
        while len(self._entries) > MAX_ENTRIES or self._size_bytes > MAX_BYTES:
            _, (_, _, dropped) = self._entries.popitem(last=False)
            self._size_bytes -= dropped
