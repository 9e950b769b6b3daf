"""Bodies of manifests: what they take while they are received, parsed and recorded."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from airside.core.errors import TooLargeError, TooManyError
from airside.core.settings import KIB, MIB
from airside.registry.http import manifest_bodies
from airside.registry.http.document_budget import DocumentBudget
from airside.registry.http.manifest_bodies import ManifestBodies


async def pieces(*parts):
    for part in parts:
        yield part


@pytest.fixture
def bodies(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        yield ManifestBodies(tmp_path, pool, 4 * MIB)
    assert list(tmp_path.iterdir()) == []


def held_bytes(body):
    return sum(map(len, body._pending))


@pytest.mark.parametrize("count", [0, 1, 64, 65, 4096])
def test_a_body_is_what_was_sent_and_a_large_one_is_not_in_memory(bodies, count):
    async def receive():
        part = bytes(range(256)) * 4
        body = await bodies.receive(pieces(*[part] * count))
        with contextlib.closing(body):
            assert held_bytes(body) <= 65 * KIB
            assert body.work_bytes() >= body.size_bytes == count * KIB
            assert body.read() == part * count

    asyncio.run(receive())


def test_a_body_above_the_limit_is_refused(bodies):
    async def receive():
        with pytest.raises(TooLargeError, match=r"limits\.document_bytes"):
            await bodies.receive(pieces(*[bytes(MIB)] * 5))

    asyncio.run(receive())


def test_a_new_body_takes_the_place_of_the_oldest(bodies, monkeypatch):
    monkeypatch.setattr(manifest_bodies, "MOST_FILES", 2)
    monkeypatch.setattr(manifest_bodies, "FAIR_SECONDS", 0.0)

    async def slow(begun):
        yield bytes(100 * KIB)
        begun.set()
        await asyncio.Event().wait()

    async def receive():
        tasks = []
        for _ in range(3):
            begun = asyncio.Event()
            tasks.append(asyncio.create_task(bodies.receive(slow(begun))))
            await begun.wait()
        with pytest.raises(TooManyError):
            await tasks[0]
        assert not tasks[1].done()
        (await bodies.receive(pieces(bytes(100 * KIB)))).close()
        monkeypatch.setattr(manifest_bodies, "MOST_FILES", 1)
        monkeypatch.setattr(manifest_bodies, "FAIR_SECONDS", 1e9)
        with pytest.raises(TooManyError):
            await bodies.receive(pieces(bytes(100 * KIB)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(receive())


def test_documents_get_their_memory_in_turn_and_never_more_than_there_is():
    async def work():
        budget, order, most = DocumentBudget(10), [], []

        async def one(number, count):
            async with budget.reserve(count):
                most.append(budget.held_bytes)
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(one(n, count) for n, count in enumerate([4, 6, 1, 100, 1, 9])))
        assert order == list(range(6))
        assert max(most) <= 10
        assert budget.held_bytes == 0

    asyncio.run(work())


def test_a_document_that_waits_too_long_is_refused_and_blocks_nobody():
    async def work():
        budget = DocumentBudget(10, wait_seconds=0.01)
        async with budget.reserve(6):
            with pytest.raises(TooManyError):
                async with budget.reserve(6):
                    raise AssertionError("it was granted")
            async with budget.reserve(4):
                assert budget.held_bytes == 10
        assert budget.held_bytes == 0

    asyncio.run(work())
