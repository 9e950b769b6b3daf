import asyncio
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airside.core.errors import StoreError
from airside.telemetry.bounded_reader import BoundedReader
from airside.telemetry.health import (
    AWAY_SECONDS,
    STUCK_SECONDS,
    Finding,
    Health,
    WorkerThreads,
    examine,
    runtimes_reason,
)
from support.waiting import wait_until_async


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def fine() -> str:
    return ""


async def wrong() -> str:
    return "it is away"


async def answers() -> bool:
    return True


async def hangs() -> bool:
    return False


def test_health_says_in_words_and_as_json_what_fails():
    health = asyncio.run(examine([("store", fine), ("runtimes", wrong)]))
    assert health == Health((Finding("store"), Finding("runtimes", "it is away")))
    assert not health.is_good
    assert health.to_text(verbose=False) == "[-] runtimes: it is away\nnot ready\n"
    assert health.to_text(verbose=True).startswith("[+] store: ok\n")
    said = json.loads(health.to_json())
    assert said["ok"] is False
    assert said["items"][1] == {"name": "runtimes", "ok": False, "reason": "it is away"}


def test_health_is_one_word_where_all_is_well():
    health = asyncio.run(examine([("store", fine)]))
    assert health.to_text(verbose=False) == "ok\n"
    assert health.to_text(verbose=True) == "[+] store: ok\nready\n"


@pytest.mark.parametrize(
    ("away", "reason"),
    [
        ([], ""),
        ([None], ""),
        ([AWAY_SECONDS - 1], ""),
        ([None, AWAY_SECONDS + 1], "1 of 2 container runtimes not connected for 31 s"),
        ([math.inf], "1 of 1 container runtimes not connected since the start"),
    ],
)
def test_a_runtime_may_be_away_for_as_long_as_it_restarts(away, reason):
    assert runtimes_reason(away) == reason


def test_threads_that_come_back_are_fine():
    async def check() -> str:
        with ThreadPoolExecutor(1) as pool:
            return await WorkerThreads(pool, answers).check()

    assert asyncio.run(check()) == ""


@pytest.mark.parametrize(("disk", "is_stuck"), [(answers, True), (hangs, False)])
def test_threads_are_stuck_only_if_the_disk_does_not_explain_it(disk, is_stuck, monkeypatch):
    monkeypatch.setattr("airside.telemetry.health._WAIT_SECONDS", 0.0)

    async def check() -> list[str]:
        clock, free = Hand(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(free.wait, 60)
            threads = WorkerThreads(pool, disk, clock)
            found = [await threads.check()]
            clock.now += STUCK_SECONDS - 1
            found.append(await threads.check())
            clock.now += 2
            found.append(await threads.check())
            free.set()
        return found

    first, second, third = asyncio.run(check())
    assert (first, second, bool(third)) == ("", "", is_stuck)


def test_threads_of_a_closed_pool_are_no_reason_to_kill_an_agent_that_stops():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    assert asyncio.run(WorkerThreads(pool, answers).check()) == ""


def test_a_value_is_read_once_a_second_whoever_asks():
    clock, reads = Hand(), []

    async def ask() -> list[int | None]:
        reader = BoundedReader(lambda: reads.append(1) or len(reads), clock=clock)
        found = await asyncio.gather(*(reader.get() for _ in range(5)))
        found.append(await reader.get())
        clock.now += 1.5
        return [*found, await reader.get()]

    assert asyncio.run(ask()) == [1, 1, 1, 1, 1, 1, 2]


def test_nobody_waits_for_a_read_that_is_overdue_and_one_thread_reads():
    clock, free, threads = Hand(), threading.Event(), []

    def read() -> str:
        threads.append(threading.current_thread())
        free.wait(60)
        return "late"

    async def ask() -> None:
        reader = BoundedReader(read, wait_seconds=0.01, clock=clock)
        assert await reader.get() is None
        clock.now += 5.0
        assert await reader.get() is None
        assert reader.hangs
        assert len(threads) == 1
        free.set()
        threads[0].join(30)
        await wait_until_async(lambda: not reader.hangs)
        assert await reader.get() == "late"

    asyncio.run(ask())


@pytest.mark.parametrize("error", [StoreError("no disk"), ValueError("a bug")])
def test_a_value_that_cannot_be_read_is_missing(error):
    def read() -> None:
        raise error

    async def ask() -> None:
        assert await BoundedReader(read).get() is None

    asyncio.run(ask())
