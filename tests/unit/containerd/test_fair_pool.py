"""Owners take turns, whoever came first with how much."""

import threading

import pytest

from airside.containerd.fair_pool import FairPool
from support.waiting import LIMIT_SECONDS, wait_until


def test_owners_take_turns_and_each_keeps_its_order():
    pool, done, go = FairPool(1, "test"), [], threading.Event()
    pool.submit("a", lambda: bool(go.wait(LIMIT_SECONDS)))
    for owner, count in (("a", 4), ("b", 2), ("c", 1)):
        for number in range(count):
            pool.submit(owner, lambda text=f"{owner}{number}": done.append(text))
    go.set()
    pool.shutdown(wait=True)
    assert sorted(done[:3]) == ["a0", "b0", "c0"]
    assert sorted(done[3:5]) == ["a1", "b1"]
    assert done[5:] == ["a2", "a3"]


def test_what_is_dropped_does_not_run():
    pool, done, go = FairPool(1, "test"), [], threading.Event()
    entered = threading.Event()

    def first():
        entered.set()
        assert go.wait(LIMIT_SECONDS)

    pool.submit("a", first)
    assert entered.wait(LIMIT_SECONDS)
    pool.submit("a", lambda: done.append("a"))
    pool.submit("b", lambda: done.append("b"))
    assert pool.drop("a") == 1
    assert pool.drop("unknown") == 0
    go.set()
    wait_until(lambda: done)
    pool.shutdown(wait=True)
    assert done == ["b"]


def test_a_pool_that_was_shut_down_takes_nothing():
    pool = FairPool(1, "test")
    pool.shutdown(wait=True)
    with pytest.raises(RuntimeError):
        pool.submit("a", lambda: None)
