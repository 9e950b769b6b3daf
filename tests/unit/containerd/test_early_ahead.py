"""Layers that are opened before they are needed: taken once, closed if nobody takes them."""

import io

import pytest

from airside.containerd.early_ahead import EarlyAhead
from airside.containerd.verified_tars import VerifiedTar
from airside.core.errors import StoreError
from support.images import sha256

CHAINS = [sha256(str(n).encode()) for n in range(6)]


def tar():
    return VerifiedTar(io.BytesIO(b"tar"), CHAINS[0])


def never():
    raise AssertionError("opened a second time")


def test_what_was_opened_ahead_is_taken():
    ahead, made = EarlyAhead(), tar()
    ahead.prepare(CHAINS[0], lambda: made)()
    assert ahead.take(CHAINS[0], never) is made
    other = tar()
    assert ahead.take(CHAINS[0], lambda: other) is other


def test_what_is_not_begun_is_opened_by_who_needs_it():
    ahead, made = EarlyAhead(), tar()
    call = ahead.prepare(CHAINS[0], never)
    assert ahead.take(CHAINS[0], lambda: made) is made
    call()


def test_an_error_is_raised_where_the_layer_is_needed():
    def fail():
        raise StoreError("lost")

    ahead = EarlyAhead()
    ahead.prepare(CHAINS[0], fail)()
    with pytest.raises(StoreError):
        ahead.take(CHAINS[0], never)


def test_few_are_opened_ahead():
    ahead = EarlyAhead()
    assert [ahead.prepare(chain, tar) is not None for chain in CHAINS] == [True] * 4 + [False] * 2
    assert ahead.prepare(CHAINS[0], tar) is None


def test_what_nobody_takes_is_closed():
    ahead, made, late = EarlyAhead(), tar(), tar()
    ahead.prepare(CHAINS[0], lambda: made)()
    ahead.drop(CHAINS[0])
    assert made.file.closed
    ahead.prepare(CHAINS[1], lambda: late)()
    call = ahead.prepare(CHAINS[2], never)
    ahead.close()
    assert late.file.closed
    call()
    assert ahead.prepare(CHAINS[3], tar) is None
