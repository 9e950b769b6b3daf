"""Results that hold for some seconds: they expire, and the oldest is dropped first."""

import pytest

from airside.registry.proxy import expiring_cache
from airside.registry.proxy.expiring_cache import ExpiringCache


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_value_is_returned_until_it_expires() -> None:
    clock = Clock()
    cache = ExpiringCache(clock)
    assert cache.get("key") is None
    cache.put("key", "absent", 5.0)
    clock.now = 4.9
    assert cache.get("key") == "absent"
    clock.now = 5.0
    assert cache.get("key") is None


def test_a_new_value_replaces_the_old_one_and_its_expiry() -> None:
    clock = Clock()
    cache = ExpiringCache(clock)
    cache.put("key", "first", 1.0)
    cache.put("key", "second", 10.0)
    clock.now = 5.0
    assert cache.get("key") == "second"


def test_the_oldest_entry_is_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiring_cache, "MAX_ENTRIES", 2)
    cache = ExpiringCache(Clock())
    for key in ("a", "b", "a", "c"):
        cache.put(key, key, 1.0)
    assert [cache.get(key) for key in "abc"] == ["a", None, "c"]


def test_large_values_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiring_cache, "MAX_BYTES", 10)
    cache = ExpiringCache(Clock())
    for key, size in (("a", 5), ("b", 4), ("b", 5), ("c", 1), ("d", 0), ("e", 11)):
        cache.put(key, key, 1.0, size)
        assert cache._size_bytes <= 10
    assert [cache.get(key) for key in "abcde"] == [None] * 5
    cache.put("f", "f", 1.0, 10)
    assert cache.get("f") == "f"
