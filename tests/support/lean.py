"""The agent without its watcher: one look at the directories, the import queue, the registry.

For crash tests, which start it many times: in this process, or in another that a fault kills
(`python -m support.lean IMAGES DATA ON_REMOVAL`).
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from airside.agent import import_queue as jobs
from airside.agent.node import Node, open_node
from airside.archive.stat_key import StatKey
from airside.core.settings import Settings, WatchedDirectory
from airside.importer.watch.settle import Batch, Settled
from airside.registry.http.app import create_app
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.served_content import ServedContent

from .nodes import settings_at
from .queues import queue_of
from .waiting import LIMIT_SECONDS

_POLL_SECONDS = 0.005


def settings_for(images: Path, data: Path, on_removal: str = "unpin") -> Settings:
    watched = WatchedDirectory(images, on_removal=on_removal)  # type: ignore[arg-type]
    return settings_at(data, images=(watched,), retry_seconds=0.01, parallel_imports=2)


class Lean:
    """A node with its queue and registry, in the running loop."""

    def __init__(self, node: Node, settings: Settings, pool: Executor, address: str) -> None:
        self.node, self.address = node, address
        self._settings = settings
        self._looks: set[asyncio.Task[None]] = set()
        self.queue = queue_of(node, pool, self.look_again)

    def look_again(self, path: Path, *, after_seconds: float) -> None:
        async def look() -> None:
            await asyncio.sleep(min(after_seconds, 0.01))
            key = await asyncio.to_thread(lambda: StatKey.of(path.stat()))
            await self.queue.take(Batch((Settled(path, key),)))

        task = asyncio.create_task(look())
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def scan(self) -> None:
        """Tell the queue what differs from the catalog, then wait until all is done."""
        known = self.node.catalog.known()
        paths = {str(p): p for d in self._settings.images for p in sorted(d.path.iterdir())}
        keys = {text: StatKey.of(path.stat()) for text, path in paths.items()}
        new = [Settled(paths[t], key) for t, key in keys.items() if known.get(t) != str(key)]
        new.sort(key=lambda settled: (settled.key.mtime_ns, settled.path))
        gone = tuple(Path(text) for text in known if text not in paths)
        if new or gone:
            await self.queue.take(Batch(tuple(new), gone))
        await self._idle()

    async def repair(self) -> None:
        """One pass of self-repair, and what it asks for."""
        for source_id, path in await asyncio.to_thread(self.node.reconcile):
            await self.queue.submit_path(source_id, path)
        await self._idle()

    async def _idle(self) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):  # the queue has no event for it
            while self.queue._pending or self.queue.running or self._looks:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)


@contextlib.asynccontextmanager
async def lean(settings: Settings) -> AsyncIterator[Lean]:
    """Open the data directory, serve it, and run the queue."""
    jobs._RECORD_AGAIN_SECONDS = 0.01
    with (
        open_node(settings) as node,
        ThreadPoolExecutor(settings.parallel_imports, "imports") as pool,
        ThreadPoolExecutor(2, "reads") as reads,
    ):
        app = create_app(ServedContent(node.catalog, node.store, "docker.io"), DeadlinePool(reads))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            agent = Lean(node, settings, pool, f"{host}:{port}")
            running = asyncio.create_task(agent.queue.run())
            try:
                yield agent
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        finally:
            await runner.cleanup()


async def _once(settings: Settings) -> None:
    async with lean(settings) as agent:
        await agent.scan()
        await agent.repair()


if __name__ == "__main__":
    asyncio.run(_once(settings_for(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
