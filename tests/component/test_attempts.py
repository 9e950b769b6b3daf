"""Archives that kill the process which reads them."""

import threading
from unittest.mock import Mock

import pytest

from airside.catalog.attempts import Attempt
from airside.core.errors import StoppedError, StorageFullError
from airside.importer.attempts import AttemptGuard, DeadlyArchiveError
from support.nodes import node_at
from support.waiting import wait_until


@pytest.fixture
def attempts(tmp_path):
    with node_at(tmp_path / "data") as node:
        yield node.catalog.attempts


def never():
    return False


def die(attempts, key="a", boot="boot", source_id=1):
    """What remains of a process that was killed while it read the archive."""
    attempts.begin(source_id, attempts.next(source_id, key, boot))


def run(attempts, key="a", boot="boot", source_id=1):
    with AttemptGuard(attempts, lambda: boot).attempt(source_id, key, never):
        pass


def test_an_archive_that_killed_the_agent_twice_is_not_read_again(attempts):
    die(attempts)
    die(attempts)
    for _ in range(2):
        with pytest.raises(DeadlyArchiveError, match=r"died 2 times.*touch.*airside import"):
            run(attempts)
    run(attempts, key="changed")
    run(attempts)


def test_one_death_is_forgotten_when_the_import_ends(attempts):
    for _ in range(3):
        die(attempts)
        run(attempts)


def test_an_import_that_fails_or_is_stopped_is_no_death(attempts):
    for _ in range(3):
        guard = AttemptGuard(attempts, lambda: "boot")
        with pytest.raises(StoppedError), guard.attempt(1, "a", never):
            raise StoppedError("stopped")


def test_a_stop_that_is_forced_is_no_death(attempts):
    for _ in range(3):
        die(attempts)
        attempts.excuse()
    run(attempts)


def test_an_end_that_cannot_be_recorded_is_no_death_and_no_failure(attempts, monkeypatch):
    guard = AttemptGuard(attempts, lambda: "boot")
    with monkeypatch.context() as full:
        full.setattr(attempts, "end", Mock(side_effect=StorageFullError("disk full")))
        for _ in range(3):
            with guard.attempt(1, "a", never):
                pass
    with guard.attempt(1, "a", never):
        pass
    assert attempts.next(1, "a", "boot").deaths == 0


def test_power_cuts_count_as_one_death_at_most(attempts):
    for number in range(5):
        die(attempts, boot=f"boot {number}")
    run(attempts, boot="boot 5")
    die(attempts, boot="1")
    die(attempts, boot="2")  # a cut
    die(attempts, boot="2")  # and a kill
    with pytest.raises(DeadlyArchiveError):
        run(attempts, boot="2")
    assert Attempt("a", "1", kills=1, cut=True).deaths == 2


def test_an_archive_imported_by_hand_is_forgiven(attempts):
    die(attempts)
    die(attempts)
    AttemptGuard(attempts, lambda: "boot").forgive(1)
    run(attempts)


def test_a_suspect_is_read_alone_so_that_no_other_archive_is_blamed(attempts):
    die(attempts, source_id=2)
    guard, order = AttemptGuard(attempts, lambda: "boot"), []
    first_may_end, suspect_waits = threading.Event(), threading.Event()

    def waits():
        suspect_waits.set()
        return False

    def one(source_id, stop, until):
        with guard.attempt(source_id, "a", stop):
            order.append(source_id)
            until.wait()
            order.append(source_id)

    done = threading.Event()
    done.set()
    threads = [threading.Thread(target=one, args=(1, never, first_may_end))]
    threads[0].start()
    wait_until(lambda: order == [1])
    threads.append(threading.Thread(target=one, args=(2, waits, done)))
    threads[1].start()
    suspect_waits.wait()
    threads.append(threading.Thread(target=one, args=(3, never, done)))
    threads[2].start()
    first_may_end.set()
    for thread in threads:
        thread.join()
    assert order == [1, 1, 2, 2, 3, 3]


def test_a_suspect_that_waits_can_be_stopped(attempts):
    die(attempts, source_id=2)
    guard = AttemptGuard(attempts, lambda: "boot")
    with guard.attempt(1, "a", never), pytest.raises(StoppedError):
        guard.attempt(2, "a", lambda: True).__enter__()
