"""One job per key, however many wait for it; a client that stops waiting does not end it."""

import asyncio
from functools import partial

import pytest

from airside.registry.proxy.single_flight import SingleFlight


class Job:
    """Counts its runs, and ends when it is released."""

    def __init__(self) -> None:
        self.runs, self.ended = 0, 0
        self.released = asyncio.Event()

    async def run(self, result: str) -> str:
        self.runs += 1
        try:
            await self.released.wait()
        finally:
            self.ended += 1
        return result


async def turns() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_clients_that_wait_for_the_same_key_share_one_run() -> None:
    async def scenario() -> None:
        flights, job = SingleFlight(), Job()
        waiting = [
            asyncio.create_task(flights.run("key", partial(job.run, "one"))) for _ in range(3)
        ]
        other = asyncio.create_task(flights.run("other", partial(job.run, "two")))
        await turns()
        job.released.set()
        assert await asyncio.gather(*waiting, other) == ["one", "one", "one", "two"]
        assert job.runs == 2
        await turns()
        assert await flights.run("key", partial(job.run, "again")) == "again"

    asyncio.run(scenario())


def test_a_client_that_stops_waiting_does_not_end_the_job() -> None:
    async def scenario() -> None:
        flights, job = SingleFlight(), Job()
        gone = asyncio.create_task(flights.run("key", partial(job.run, "one")))
        stays = asyncio.create_task(flights.run("key", partial(job.run, "one")))
        await turns()
        gone.cancel()
        await turns()
        assert gone.cancelled()
        assert job.ended == 0
        job.released.set()
        assert await stays == "one"

    asyncio.run(scenario())


def test_an_error_reaches_every_waiting_client() -> None:
    async def fail() -> str:
        raise ValueError("broken")

    async def scenario() -> None:
        flights = SingleFlight()
        found = await asyncio.gather(
            *(flights.run("key", fail) for _ in range(2)), return_exceptions=True
        )
        assert [str(error) for error in found] == ["broken"] * 2

    asyncio.run(scenario())


def test_cancel_ends_all_jobs_before_it_returns() -> None:
    async def scenario() -> None:
        flights, job = SingleFlight(), Job()
        flights.start("background", job.run("one"))
        waiting = asyncio.create_task(flights.run("key", partial(job.run, "two")))
        await turns()
        await flights.cancel()
        assert job.ended == 2
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
