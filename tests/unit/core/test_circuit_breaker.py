from airside.core.circuit_breaker import CircuitBreaker


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_lets_all_pass_until_a_call_takes_too_long():
    clock = _Clock()
    breaker = CircuitBreaker(clock, 5.0)
    assert all(breaker.allows() for _ in range(10))
    assert not breaker.worked()
    assert breaker.failed()
    assert not breaker.allows()
    clock.now += 4.9
    assert not breaker.allows()


def test_after_the_pause_one_may_try_and_the_others_go_on_being_refused():
    clock = _Clock()
    breaker = CircuitBreaker(clock, 5.0)
    breaker.failed()
    clock.now += 5.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    assert not breaker.failed()  # no news
    clock.now += 4.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()
    assert breaker.worked()
    assert all(breaker.allows() for _ in range(3))
    assert breaker.failed()
