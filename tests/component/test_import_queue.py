"""The queue between what settles and what is imported."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airside.archive.stat_key import StatKey
from airside.core.settings import WatchedDirectory
from airside.importer.watch.settle import Batch, Settled
from support.images import docker_archive, random_image
from support.nodes import node_at
from support.queues import Running, queue_of


@pytest.fixture
def node(tmp_path):
    (tmp_path / "images").mkdir()
    with node_at(tmp_path / "data", images=(WatchedDirectory(tmp_path / "images"),)) as node:
        yield node


def test_a_slow_copy_that_was_read_whole_before_it_settled_is_imported_once(node, tmp_path):
    """An import that began by an earlier part finds the last part there already."""
    path = tmp_path / "images" / "app.tar"
    docker_archive(path, {"app:1": random_image("app", media="docker")})
    whole = StatKey.of(path.stat())
    part = replace(whole, size_bytes=whole.size_bytes - 512)

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            queue = queue_of(node, pool, lambda _path, **_named: None)
            running = asyncio.create_task(queue.run())
            here = Running(node, queue)
            await queue.take(Batch((Settled(path, part),), ()))
            await here.state(path, "imported")
            await here.until(lambda: not queue.running)
            await queue.take(Batch((Settled(path, whole),), ()))
            assert (queue.queued, here.row(path).state) == (0, "imported")
            path.touch()  # a later change is another import
            await queue.take(Batch((Settled(path, StatKey.of(path.stat())),), ()))
            await here.until(lambda: queue.queued + len(queue.running) == 0)
            await here.state(path, "imported")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    kinds = [event.kind for event in node.catalog.events(limit=100)]
    assert kinds.count("imported") == 2
