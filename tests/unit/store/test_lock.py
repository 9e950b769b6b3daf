"""The store's lock: many committers at once or one that deletes, which never waits forever."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from airside.store.lock import StoreLock
from support.waiting import LIMIT_SECONDS


class _Holder:
    """Holds one side in a separate thread until `let_go`."""

    def __init__(self, guard: StoreLock, pool: ThreadPoolExecutor, *, exclusive: bool) -> None:
        self._guard, self._exclusive = guard, exclusive
        self.entered, self._let_go = threading.Event(), threading.Event()
        self._future: Future[None] = pool.submit(self._hold)

    def _hold(self) -> None:
        with self._guard.exclusive() if self._exclusive else self._guard.shared():
            self.entered.set()
            assert self._let_go.wait(LIMIT_SECONDS)

    def is_in(self) -> bool:
        return self.entered.wait(LIMIT_SECONDS)

    def is_out(self) -> bool:
        """Returns True if it still waits after the others had time to let it in."""
        return not self.entered.wait(0.05)

    def let_go(self) -> None:
        self._let_go.set()
        self._future.result(LIMIT_SECONDS)


class _Holders:
    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.guard, self._pool = StoreLock(), pool

    def shared(self) -> _Holder:
        return _Holder(self.guard, self._pool, exclusive=False)

    def exclusive(self) -> _Holder:
        return _Holder(self.guard, self._pool, exclusive=True)


@pytest.fixture
def holders():
    with ThreadPoolExecutor(8) as pool:
        yield _Holders(pool)


def test_committers_work_side_by_side(holders: _Holders) -> None:
    first, second = holders.shared(), holders.shared()
    assert first.is_in()
    assert second.is_in()
    first.let_go()
    second.let_go()


def test_who_deletes_waits_for_all_committers(holders: _Holders) -> None:
    first, second = holders.shared(), holders.shared()
    assert first.is_in()
    assert second.is_in()
    deleting = holders.exclusive()
    first.let_go()
    assert deleting.is_out()
    second.let_go()
    assert deleting.is_in()
    deleting.let_go()


def test_nobody_commits_while_one_deletes(holders: _Holders) -> None:
    deleting = holders.exclusive()
    assert deleting.is_in()
    committing, another = holders.shared(), holders.exclusive()
    assert committing.is_out()
    assert another.is_out()
    deleting.let_go()
    assert another.is_in()
    assert committing.is_out()
    another.let_go()
    assert committing.is_in()
    committing.let_go()


def test_a_waiting_deletion_goes_before_later_committers(holders: _Holders) -> None:
    committing = holders.shared()
    assert committing.is_in()
    deleting = holders.exclusive()
    assert deleting.is_out()
    later = holders.shared()
    assert later.is_out()
    committing.let_go()
    assert deleting.is_in()
    assert later.is_out()
    deleting.let_go()
    assert later.is_in()
    later.let_go()


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_error_lets_the_others_in(exclusive: bool, holders: _Holders) -> None:  # noqa: FBT001
    guard = holders.guard
    with pytest.raises(KeyError), guard.exclusive() if exclusive else guard.shared():
        raise KeyError
    deleting = holders.exclusive()
    assert deleting.is_in()
    deleting.let_go()


def test_a_deletion_that_is_broken_off_while_waiting_blocks_nobody(holders: _Holders) -> None:
    guard = holders.guard
    committing = holders.shared()
    assert committing.is_in()

    def broken_off(_predicate: object) -> None:
        raise KeyboardInterrupt

    wait_for, guard._condition.wait_for = guard._condition.wait_for, broken_off
    with pytest.raises(KeyboardInterrupt), guard.exclusive():
        pass
    guard._condition.wait_for = wait_for
    another = holders.shared()
    assert another.is_in()
    another.let_go()
    committing.let_go()


def test_between_two_deletions_those_get_in_who_wait_to_commit(holders: _Holders) -> None:
    guard = holders.guard
    entered = threading.Event()

    def commits() -> None:
        with guard.shared():
            entered.set()

    with guard.exclusive():
        committing = threading.Thread(target=commits)
        committing.start()
        assert not entered.wait(0.05)
    guard.give_way()
    with guard.exclusive():
        assert entered.is_set()
    committing.join()
