"""A node in this process whose watcher and import queue run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from airside.agent.import_queue import ImportQueue
from airside.agent.node import Node
from airside.archive.stat_key import StatKey
from airside.catalog.model import SourceRow
from airside.importer.watch.watcher import Watcher
from support.waiting import LIMIT_SECONDS

NOT_JUDGED = StatKey(0, 0, 0, 0)


class Running:
    """The node, its queue, and waiting for what becomes of a path."""

    def __init__(self, node: Node, queue: ImportQueue) -> None:
        self.node, self.queue = node, queue

    def row(self, path: Path) -> SourceRow:
        [row] = self.node.catalog.sources(path=str(path))
        return row

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)

    async def state(self, path: Path, state: str) -> SourceRow:
        """Wait until the path is in this state; gives how it is then."""
        rows: list[SourceRow] = []

        def reached() -> bool:
            rows[:] = self.node.catalog.sources(path=str(path))
            return bool(rows) and rows[0].state == state

        await self.until(reached)
        return rows[0]


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Running]:
    """Run them as the agent does; at the end they are stopped."""
    settings = node.settings
    known = node.catalog.known()
    keys = {Path(p): StatKey.parse(key) if key else NOT_JUDGED for p, key in known.items()}
    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(2) as lists:
        queue = ImportQueue(node, settings, pool, lists=lists)
        watcher = Watcher(settings.images, settings, keys, queue.take)
        queue.watcher = watcher
        tasks = [asyncio.create_task(queue.run()), asyncio.create_task(watcher.run())]
        try:
            yield Running(node, queue)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
