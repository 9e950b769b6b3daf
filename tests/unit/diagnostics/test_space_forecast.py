from itertools import pairwise

import pytest

from airside.diagnostics.space_forecast import (
    MOST_SAMPLES,
    SAMPLE_SECONDS,
    Sample,
    add_sample,
    forecast,
    parse_samples,
)

GB = 10**9
DAY = 86400.0


def falling(by_day, days=10, free=100 * GB):
    return [Sample(n * DAY, free - n * by_day, 200 * GB) for n in range(days)]


def test_a_steady_fall_ends_at_the_space_that_is_kept_free():
    found = forecast(falling(GB), min_free_bytes=GB)
    assert found.seconds == pytest.approx(90 * DAY)
    assert found.bytes_per_second == pytest.approx(-GB / DAY)


def test_space_that_grows_or_stays_is_never_full():
    assert forecast(falling(-GB), GB).reason == "never"
    assert forecast(falling(0), GB).reason == "never"
    assert forecast(falling(1), GB).reason == "never"


def test_few_or_close_samples_tell_nothing():
    assert forecast([], GB).reason == "unknown"
    assert forecast(falling(GB, days=2), GB).reason == "unknown"
    close = [Sample(n, 100 * GB - n, 200 * GB) for n in range(10)]
    assert forecast(close, GB).reason == "unknown"


def test_a_full_disk_is_full_now():
    assert forecast([Sample(0.0, GB, 200 * GB)], GB).seconds == 0.0


def test_samples_are_an_hour_apart_and_bounded():
    samples = []
    for n in range(MOST_SAMPLES * 3):
        samples = add_sample(samples, Sample(n * SAMPLE_SECONDS / 2, GB, 2 * GB)) or samples
    assert len(samples) == MOST_SAMPLES
    assert {b.at - a.at for a, b in pairwise(samples)} == {SAMPLE_SECONDS}


def test_a_disk_of_another_size_begins_anew_and_a_clock_set_back_too():
    old = falling(GB)
    assert add_sample(old, Sample(20 * DAY, GB, 300 * GB)) == [Sample(20 * DAY, GB, 300 * GB)]
    assert [each.at for each in add_sample(old, Sample(1.5 * DAY, GB, 200 * GB))] == [
        0,
        DAY,
        1.5 * DAY,
    ]


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '[["a", 1, 2]]', "null"])
def test_a_malformed_record_has_no_samples(text):
    assert parse_samples(text) == []
