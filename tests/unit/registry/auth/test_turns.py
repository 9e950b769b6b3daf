"""Turns are shared fairly between clients, whatever the number that each waits for."""

import asyncio
from collections.abc import Coroutine

import pytest

from airside.registry.auth import turns as module
from airside.registry.auth.turns import Turns


class _Served:
    """Requests that each hold a turn until `end`; `order` has the clients as they were served."""

    def __init__(self, count: int) -> None:
        self.turns, self.order = Turns(count), list[str]()
        self._ends: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, *clients: str) -> None:
        for client in clients:
            self._tasks.append(asyncio.create_task(self._hold(client)))
            await self.settle()

    async def _hold(self, client: str) -> None:
        async with self.turns.turn(client):
            self.order.append(client)
            end = asyncio.Event()
            self._ends.append(end)
            try:
                await end.wait()
            finally:
                end.set()

    async def end(self, count: int = 1) -> None:
        for _ in range(count):
            next(event for event in self._ends if not event.is_set()).set()
            await self.settle()

    async def cancel(self, number: int) -> None:
        self._tasks[number].cancel()
        await self.settle()

    @staticmethod
    async def settle() -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(scenario)


def test_a_first_request_waits_for_one_turn_of_each_other_client() -> None:
    async def scenario() -> None:
        served = _Served(1)
        await served.ask(*["stranger"] * 50, *["other"] * 50, "ann")
        await served.end(3)
        assert served.order == ["stranger", "stranger", "other", "ann"]
        await served.close()

    run(scenario())


def test_turns_run_side_by_side_and_in_the_order_of_arrival() -> None:
    async def scenario() -> None:
        served = _Served(2)
        await served.ask("a", "b", "c", "d")
        assert served.order == ["a", "b"]
        await served.end(2)
        assert served.order == ["a", "b", "c", "d"]
        await served.close()

    run(scenario())


def test_who_gives_up_leaves_the_turn_to_the_next() -> None:
    async def scenario() -> None:
        served = _Served(1)
        await served.ask("a", "b", "c")
        await served.cancel(1)
        await served.cancel(0)
        assert served.order == ["a", "c"]
        await served.end()
        await served.ask("d")
        assert served.order == ["a", "c", "d"]
        await served.close()

    run(scenario())


def test_a_turn_given_to_a_request_that_is_just_cancelled_is_passed_on() -> None:
    async def scenario() -> None:
        served = _Served(1)
        await served.ask("a", "b", "c")
        served._ends[0].set()
        await asyncio.sleep(0)  # the turn is b's now, which has not run yet
        await served.cancel(1)
        assert served.order[-1] in {"b", "c"}
        await served.close()
        assert served.turns._free == 1

    run(scenario())


def test_waiting_requests_are_bounded_for_each_client_and_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(module, "MAX_WAITING", 12)
        monkeypatch.setattr(module, "MAX_WAITING_OF_CLIENT", 8)
        served = _Served(1)
        await served.ask("running", *["a"] * 7)
        assert served.turns.has_room("a")
        await served.ask("a")
        assert not served.turns.has_room("a")
        await served.ask(*["b"] * 4)
        assert not served.turns.has_room("b")  # all places are taken
        assert served.turns.has_room("first")
        await served.close()

    run(scenario())
