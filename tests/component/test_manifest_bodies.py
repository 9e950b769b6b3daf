"""Bodies of manifests: what they take while they are received, parsed and recorded."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from airside.core.disk_space import DiskSpace, free_bytes
from airside.core.errors import StorageFullError, TooLargeError, TooManyError
from airside.core.settings import KIB, MIB
from airside.registry.http import manifest_bodies
from airside.registry.http.document_budget import DocumentBudget
from airside.registry.http.manifest_bodies import ManifestBodies, ManifestBody
from support.waiting import LIMIT_SECONDS, wait_until_async


async def pieces(*parts):
    for part in parts:
        yield part


@pytest.fixture
def bodies(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        yield ManifestBodies(tmp_path, pool, 4 * MIB, DiskSpace(0))
    assert list(tmp_path.iterdir()) == []


async def receive(bodies, pieces):
    async with bodies.received(pieces):
        pass


def held_bytes(body):
    return sum(map(len, body._pending))


@pytest.mark.parametrize("count", [0, 1, 64, 65, 4096])
def test_a_body_is_what_was_sent_and_a_large_one_is_not_in_memory(bodies, count):
    async def receive_all():
        part = bytes(range(256)) * 4
        async with bodies.received(pieces(*[part] * count)) as body:
            assert held_bytes(body) <= 65 * KIB
            assert body.work_bytes() >= body.size_bytes == count * KIB
            assert body.read() == part * count

    asyncio.run(receive_all())


def test_a_body_above_the_limit_is_refused(bodies):
    async def receive_all():
        with pytest.raises(TooLargeError, match=r"limits\.document_bytes"):
            await receive(bodies, pieces(*[bytes(MIB)] * 5))

    asyncio.run(receive_all())


def test_a_body_takes_no_byte_of_min_free_bytes(tmp_path):
    async def receive_all(pool):
        full = ManifestBodies(tmp_path, pool, 4 * MIB, DiskSpace(free_bytes(tmp_path)))
        with pytest.raises(StorageFullError, match="min_free_bytes"):
            await receive(full, pieces(bytes(100 * KIB)))
        await receive(full, pieces(bytes(64 * KIB)))

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(receive_all(pool))


def test_bodies_that_wait_to_be_parsed_count_and_give_no_way(bodies, monkeypatch):
    monkeypatch.setattr(manifest_bodies, "MOST_FILES", 2)
    monkeypatch.setattr(manifest_bodies, "FAIR_SECONDS", 0.0)

    async def receive_all():
        large = bytes(100 * KIB)
        async with bodies.received(pieces(large)), bodies.received(pieces(large)) as waiting:
            with pytest.raises(TooManyError):
                await receive(bodies, pieces(large))
            await receive(bodies, pieces(bytes(64 * KIB)))
            assert waiting.read() == large
        await receive(bodies, pieces(large))

    asyncio.run(receive_all())


def test_a_file_is_written_to_its_end_before_a_body_that_gives_way_closes_it(bodies, monkeypatch):
    begun, go, seen, write = Event(), Event(), [], ManifestBody.write

    def write_later(body):
        begun.set()
        go.wait(LIMIT_SECONDS)
        write(body)
        seen.append(body._file.closed)

    async def receive_all():
        monkeypatch.setattr(ManifestBody, "write", write_later)
        task = asyncio.create_task(receive(bodies, pieces(bytes(100 * KIB))))
        await wait_until_async(begun.is_set)
        task.cancel()
        asyncio.get_running_loop().call_later(0.0, go.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [False]

    asyncio.run(receive_all())


def test_a_new_body_takes_the_place_of_the_oldest(bodies, monkeypatch):
    monkeypatch.setattr(manifest_bodies, "MOST_FILES", 2)
    monkeypatch.setattr(manifest_bodies, "FAIR_SECONDS", 0.0)

    async def slow(begun):
        yield bytes(100 * KIB)
        begun.set()
        await asyncio.Event().wait()

    async def receive_all():
        tasks = []
        for _ in range(3):
            begun = asyncio.Event()
            tasks.append(asyncio.create_task(receive(bodies, slow(begun))))
            await begun.wait()
        with pytest.raises(TooManyError):
            await tasks[0]
        assert not tasks[1].done()
        await receive(bodies, pieces(bytes(100 * KIB)))
        monkeypatch.setattr(manifest_bodies, "MOST_FILES", 1)
        monkeypatch.setattr(manifest_bodies, "FAIR_SECONDS", 1e9)
        with pytest.raises(TooManyError):
            await receive(bodies, pieces(bytes(100 * KIB)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(receive_all())


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
