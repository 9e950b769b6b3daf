"""A clock that lies: what is recorded, and by which time ages are told."""

from random import Random

from airside.core.clock import BELIEVED_SECONDS, STEADY_SECONDS, Clock
from support.size import sized

DAY = 86_400.0
TODAY = 1_800_000_000.0


class Host:
    """A host whose wall clock can be set. `true`: the time that it really is."""

    def __init__(self, wall: float = TODAY) -> None:
        self.ticks, self.wall = 5_000.0, wall

    def clock(self, noted: float | None = None) -> Clock:
        return Clock(noted, wall=lambda: self.wall, ticks=lambda: self.ticks)

    def run(self, clock: Clock, seconds: float) -> None:
        """Time goes on; the clock is asked now and then, and believes what it may."""
        while seconds > 0:
            step = min(60.0, seconds)
            self.ticks, self.wall, seconds = self.ticks + step, self.wall + step, seconds - step
            clock.ages()
            pending = clock.pending()
            if pending is not None:
                clock.believe(pending)


def test_a_right_clock_tells_its_time() -> None:
    host = Host()
    clock = host.clock(TODAY - 5.0)
    for _ in range(10):
        host.run(clock, 100.0)
        assert clock() == clock.ages() == host.wall


def test_a_clock_slewed_by_ntp_is_followed_both_ways() -> None:
    host = Host()
    clock = host.clock()
    for rate in (1.05, 0.95):
        for _ in range(100):
            host.ticks += 60.0
            host.wall += 60.0 * rate
            assert clock.ages() == host.wall


def test_a_clock_of_1970_records_and_counts_on_from_the_last_time() -> None:
    host = Host(wall=100.0)
    clock = host.clock(TODAY)
    assert clock() == clock.ages() == TODAY
    host.run(clock, 50 * DAY)
    assert clock() == clock.ages() == TODAY + 50 * DAY
    assert clock.behind_seconds > 0


def test_a_jump_ahead_is_believed_only_when_it_was_steady() -> None:
    host = Host()
    clock = host.clock()
    host.wall += 400 * DAY
    host.run(clock, STEADY_SECONDS - 60.0)
    assert clock.ages() == TODAY + STEADY_SECONDS - 60.0
    assert clock() == host.wall
    host.run(clock, 180.0)
    assert clock.ages() == host.wall


def test_a_jump_that_goes_back_soon_changes_no_age() -> None:
    host = Host()
    clock = host.clock()
    for sign in (1, -1) * 20:
        host.wall += sign * 400 * DAY
        host.run(clock, STEADY_SECONDS - 120.0)
    assert clock.ages() == host.wall


def test_a_long_stop_counts_only_when_the_clock_was_steady() -> None:
    host = Host()
    clock = host.clock(TODAY - 60 * DAY)
    assert clock.ages() == TODAY - 60 * DAY
    assert clock() == TODAY
    host.run(clock, STEADY_SECONDS + 120.0)
    assert clock.ages() == host.wall
    assert host.clock(host.wall - BELIEVED_SECONDS).ages() == host.wall


def test_ages_and_records_never_go_back_whatever_the_wall_clock_does() -> None:
    rng = Random(3)
    for _ in range(sized(20, 2000)):
        host = Host(rng.choice([0.0, TODAY, 2 * TODAY]))
        clock = host.clock(rng.choice([None, TODAY]))
        began, start = host.ticks, clock.ages()
        before = start
        for _ in range(30):
            if rng.random() < 0.3:
                host.wall = rng.choice([0.0, TODAY, TODAY + rng.random() * 900 * DAY])
            host.run(clock, rng.random() * 400.0)  # never steady for long
            ages = clock.ages()
            assert before <= ages + 2.0
            assert clock() >= ages
            before = ages
            if clock.pending() is None and rng.random() < 0.1:
                host.ticks, host.wall = host.ticks + 1.0, host.wall + 1.0
        assert began <= host.ticks
