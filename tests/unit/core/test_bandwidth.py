"""One limit on the bytes per second of all imports."""

import threading

import pytest

from airside.core.bandwidth import Bandwidth

RATE = 1000


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 50.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def never() -> bool:
    return False


def limited(clock: Clock, rate: int = RATE) -> Bandwidth:
    return Bandwidth(rate, clock, clock.sleep)


@pytest.mark.parametrize("counts", [(5000,), (1000,) * 5, (1,) * 5000, (1, 4000, 999)])
def test_bytes_take_exactly_as_long_as_the_rate_says(counts: tuple[int, ...]) -> None:
    clock = Clock()
    bandwidth = limited(clock)
    for count in counts:
        bandwidth.take(count, never)
    assert clock.now == pytest.approx(50.0 + sum(counts) / RATE)


def test_a_slow_reader_never_waits() -> None:
    clock = Clock()
    bandwidth = limited(clock)
    for _ in range(5):
        clock.now += 2.0
        bandwidth.take(1, never)
        clock.now += 0.001
    clock.slept.clear()
    clock.now += 2.0
    bandwidth.take(0, never)
    assert clock.slept == []


def test_a_pause_is_not_made_up_for() -> None:
    clock = Clock()
    bandwidth = limited(clock)
    bandwidth.take(1000, never)
    clock.now += 100.0
    before = clock.now
    bandwidth.take(2000, never)
    assert clock.now == pytest.approx(before + 2.0)


def test_without_a_rate_nothing_waits_and_the_progress_is_the_same() -> None:
    clock = Clock()
    bandwidth = limited(clock, 0)
    bandwidth.take(1 << 40, never)
    assert clock.slept == []
    assert bandwidth.counted(print, never) is print


def test_a_stop_ends_the_wait() -> None:
    clock = Clock()
    limited(clock).take(3_600_000, lambda: clock.now > 51.0)
    assert clock.now < 52.0


def test_the_limit_holds_for_all_threads_together() -> None:
    """Each import waits for the bytes of all: the last one is due after the sum."""
    clock, lock = Clock(), threading.Lock()
    due: list[float] = []
    bandwidth = Bandwidth(RATE, lambda: 50.0, lambda _: None)

    def take(number: int) -> None:
        polls = iter((False, True))
        with lock:
            bandwidth.take(1000 * number, lambda: next(polls))
            due.append(bandwidth._free_at)

    threads = [threading.Thread(target=take, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(due) == pytest.approx(clock.now + 10.0)


def test_a_progress_counts_each_byte_of_an_archive_once() -> None:
    clock = Clock()
    seen: list[tuple[int, int]] = []
    progress = limited(clock).counted(lambda done, total: seen.append((done, total)), never)
    for done in (1000, 3000, 2500, 3000, 5000):  # members are read at once: it may go back
        progress(done, 5000)
    assert seen == [(1000, 5000), (3000, 5000), (2500, 5000), (3000, 5000), (5000, 5000)]
    assert clock.now == pytest.approx(55.0)
