"""The room for the plans of several archives."""

import threading

import pytest

from airside.archive.formats.allowance import Allowance
from airside.archive.planning_room import SMALL_BYTES, PlanningRoom, PlanPlace
from airside.core.errors import StoppedError
from airside.core.memory_account import MemoryAccount
from airside.core.settings import Limits


def plan(count):
    def make(allowance: Allowance) -> Allowance:
        allowance.take_bytes(count, "")
        allowance.take_names(1, "")
        return allowance

    return make


def test_a_second_large_plan_waits_and_small_ones_do_not():
    room = PlanningRoom()
    first = PlanPlace(room, lambda: False)
    first.draft(Limits(), plan(SMALL_BYTES + 1))
    for _ in range(3):
        PlanPlace(room, lambda: False).draft(Limits(), plan(100))
    second = PlanPlace(room, lambda: True)
    with pytest.raises(StoppedError):
        second.draft(Limits(), plan(SMALL_BYTES + 1))
    second.close()
    waiting = PlanPlace(room, lambda: False)
    done = threading.Event()

    def wait():
        waiting.draft(Limits(), plan(SMALL_BYTES + 1))
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    first.close()
    thread.join()
    assert done.is_set()
    waiting.close()
    waiting.close()
    assert not room.large.locked()
    assert not room.turn.locked()


def test_what_a_drafted_plan_still_reads_makes_it_no_large_one():
    allowance = PlanPlace(PlanningRoom(), lambda: False).draft(Limits(), plan(100))
    later = allowance.again()
    later.take_bytes(SMALL_BYTES + 1, "")
    later.take_names(1, "")
    allowance.take_parsed(SMALL_BYTES + 1, "")


def test_the_parsing_of_each_document_has_its_share_of_the_common_memory():
    memory = MemoryAccount(10_000)
    place = PlanPlace(PlanningRoom(memory), lambda: False)
    held = []
    read = place.reserving(lambda count: b"x" * count if count else None)
    with place.planning():
        for count in (100, 1_000, 0, 1_000_000, 100):
            read(count)
            held.append(memory.held_bytes)
    assert held == [300, 3_000, 0, 10_000, 300]
    assert memory.held_bytes == 0


def test_an_import_that_is_stopped_waits_no_longer_for_memory():
    memory = MemoryAccount(10)
    taken = memory.ask(10)
    place = PlanPlace(PlanningRoom(memory), lambda: True)
    with pytest.raises(StoppedError), place.planning():
        place.reserving(bytes)(5)
    memory.give_back(taken)
    assert memory.held_bytes == 0
