"""Bodies of manifests: what they take while they are received, parsed and recorded."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from airside.core.disk_space import DiskSpace, free_bytes
from airside.core.errors import StoppedError, StorageFullError, TooLargeError, TooManyError
from airside.core.memory_account import MemoryAccount
from airside.core.settings import KIB, MIB
from airside.registry.documents import bodies as document_bodies
from airside.registry.documents.bodies import DocumentBodies, DocumentBody
from airside.registry.documents.budget import DocumentBudget
from support.waiting import LIMIT_SECONDS, wait_until_async


async def pieces(*parts):
    for part in parts:
        yield part


@pytest.fixture
def bodies(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        yield DocumentBodies(tmp_path, pool, 4 * MIB, DiskSpace(0))
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
        full = DocumentBodies(tmp_path, pool, 4 * MIB, DiskSpace(free_bytes(tmp_path)))
        with pytest.raises(StorageFullError, match="min_free_bytes"):
            await receive(full, pieces(bytes(100 * KIB)))
        await receive(full, pieces(bytes(64 * KIB)))

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(receive_all(pool))


def test_bodies_that_wait_to_be_parsed_count_and_give_no_way(bodies, monkeypatch):
    bodies._most_files = 2
    monkeypatch.setattr(document_bodies, "FAIR_SECONDS", 0.0)

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
    begun, go, seen, write = Event(), Event(), [], DocumentBody.write

    def write_later(body):
        begun.set()
        go.wait(LIMIT_SECONDS)
        write(body)
        seen.append(body._file.closed)

    async def receive_all():
        monkeypatch.setattr(DocumentBody, "write", write_later)
        task = asyncio.create_task(receive(bodies, pieces(bytes(100 * KIB))))
        await wait_until_async(begun.is_set)
        task.cancel()
        asyncio.get_running_loop().call_later(0.0, go.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [False]

    asyncio.run(receive_all())


def test_a_new_body_takes_the_place_of_the_oldest(bodies, monkeypatch):
    bodies._most_files = 2
    monkeypatch.setattr(document_bodies, "FAIR_SECONDS", 0.0)

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
        bodies._most_files = 1
        monkeypatch.setattr(document_bodies, "FAIR_SECONDS", 1e9)
        with pytest.raises(TooManyError):
            await receive(bodies, pieces(bytes(100 * KIB)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(receive_all())


def test_documents_get_their_memory_in_turn_and_never_more_than_there_is():
    async def work():
        memory, order, most = MemoryAccount(10), [], []
        budget = DocumentBudget(memory)

        async def one(number, count):
            async with budget.reserve(count):
                most.append(memory.held_bytes)
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(one(n, count) for n, count in enumerate([4, 6, 1, 100, 1, 9])))
        assert order == list(range(6))
        assert max(most) <= 10
        assert memory.held_bytes == 0

    asyncio.run(work())


def test_a_document_that_waits_too_long_is_refused_and_blocks_nobody():
    async def work():
        memory = MemoryAccount(10)
        budget = DocumentBudget(memory, wait_seconds=0.01)
        async with budget.reserve(6):
            with pytest.raises(TooManyError):
                async with budget.reserve(6):
                    raise AssertionError("it was granted")
            async with budget.reserve(4):
                assert memory.held_bytes == 10
        assert memory.held_bytes == 0

    asyncio.run(work())


def test_threads_and_requests_take_turns_at_the_same_memory():
    async def work():
        memory, order, waits = MemoryAccount(10), [], asyncio.Event()
        loop = asyncio.get_running_loop()

        def plan():
            def asked():
                loop.call_soon_threadsafe(waits.set)
                return False

            with memory.reserved(8, asked):
                order.append("plan")

        async with DocumentBudget(memory).reserve(6):
            planning = asyncio.create_task(asyncio.to_thread(plan))
            await waits.wait()
            later = asyncio.create_task(push(memory, 4, order))
            await asyncio.sleep(0)
            order.append("first")
        await asyncio.gather(planning, later)
        assert order == ["first", "plan", "push"]
        assert memory.held_bytes == 0

    async def push(memory, count, order):
        async with DocumentBudget(memory).reserve(count):
            order.append("push")

    asyncio.run(work())


def test_a_stopped_thread_gives_its_place_in_the_queue_to_others():
    memory = MemoryAccount(10)
    holder = memory.ask(6)
    with pytest.raises(StoppedError), memory.reserved(6, lambda: True):
        raise AssertionError("it was granted")
    with memory.reserved(4, lambda: False):
        assert memory.held_bytes == 10
    memory.give_back(holder)
    assert memory.held_bytes == 0
