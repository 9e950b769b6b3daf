import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.registry.rules.token_bucket import (
    FORGIVEN_SECONDS,
    LAST_DELAY_SECONDS,
    MAX_FAILURES,
    LoginFailures,
    Shares,
    TokenBucket,
    client_key,
)


def test_a_bucket_lets_a_seconds_worth_through_and_then_the_rate():
    bucket = TokenBucket(100)
    assert bucket.take(100, 0) == 0
    assert bucket.take(50, 0) == 0.5
    assert bucket.take(50, 1) == 0
    assert bucket.take(0, 1000) == 0
    assert bucket.take(100, 1000) == 0
    assert bucket.take(1, 1000) == 0.01


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 3)), min_size=1, max_size=60),
    st.integers(1, 1000),
)
def test_whoever_waits_as_told_never_passes_the_rate(takes, rate):
    bucket, now, sent = TokenBucket(rate), 0.0, 0
    for count, pause in takes:
        now += pause + bucket.take(count, now + pause)
        sent += count
        assert sent <= rate * (now + 1) * (1 + 1e-6) + 1e-6


def test_clients_have_their_own_cap_within_that_of_all():
    shares = Shares(total_rate=300, client_rate=100)
    assert shares.take("10.0.0.1", 200, 0) == 1
    assert shares.take("10.0.0.2", 100, 0) == 0
    assert shares.take("10.0.0.3", 30, 0) == pytest.approx(0.1)  # of all
    only_total = Shares(total_rate=100, client_rate=0)
    assert only_total.take("a", 200, 0) == 1


def test_slices_are_a_fraction_of_the_smaller_cap():
    assert Shares(0, 1 << 30).slice_bytes == 1 << 20
    assert Shares(80_000, 800_000).slice_bytes == 10_000
    assert Shares(0, 10).slice_bytes == 4096


def test_the_memory_of_clients_is_bounded():
    shares, failures = Shares(0, 100, limit=3), LoginFailures(limit=3)
    for n in range(10):
        shares.take(f"10.0.0.{n}", 1, 0)
        failures.begin(f"10.0.0.{n}", 0)
    assert (len(shares._clients), len(failures)) == (3, 3)


def test_failed_logins_wait_longer_and_longer_and_are_then_refused():
    failures, delays = LoginFailures(), []
    for _ in range(int(MAX_FAILURES)):
        assert failures.begin("10.0.0.1", 0) == 0
        delays.append(failures.delay("10.0.0.1", 0))
    assert delays == sorted(delays)
    assert delays[0] < delays[1] < delays[-1] == LAST_DELAY_SECONDS
    assert failures.begin("10.0.0.1", 0) == FORGIVEN_SECONDS
    assert failures.begin("10.0.0.2", 0) == 0
    assert failures.begin("10.0.0.1", FORGIVEN_SECONDS) == 0
    assert failures.begin("10.0.0.1", FORGIVEN_SECONDS) > 0
    assert failures.begin("10.0.0.1", 1000) == 0


def test_failures_for_other_users_and_elsewhere_refuse_nobody():
    failures = LoginFailures()
    for n in range(100):
        failures.begin("10.0.0.1", 0, "ann")
        failures.begin("10.0.0.1", 0, f"nobody-{n}")
    assert failures.begin("10.0.0.1", 0, "ann") > 0
    assert failures.begin("10.0.0.1", 0, "bob") == 0
    assert failures.begin("10.0.0.2", 0, "ann") == 0
    assert failures.delay("10.0.0.1", 0) == LAST_DELAY_SECONDS
    assert failures.delay("10.0.0.1", 60) < LAST_DELAY_SECONDS  # soon forgiven


def test_all_addresses_of_loopback_are_one_client():
    failures = LoginFailures()
    for n in range(10):
        assert failures.begin(f"127.0.0.{n + 1}", 0, "ann") == 0
    assert failures.begin("127.9.9.9", 0, "ann") > 0
    assert failures.begin("::1", 0, "ann") > 0


def test_good_tries_do_not_count():
    failures = LoginFailures()
    for _ in range(100):
        assert failures.begin("10.0.0.1", 0) == 0
        failures.succeeded("10.0.0.1", 0)
    assert len(failures) == 0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_by_what_a_client_is_remembered(address, key):
    assert client_key(address) == key
