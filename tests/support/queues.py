"""A node in this process whose watcher and import queue run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from airside.agent.import_queue import ImportQueue, LookAgain
from airside.agent.node import Node
from airside.archive.stat_key import StatKey
from airside.catalog.model import SourceRow
from airside.importer.watch.watcher import Watcher
from support.waiting import wait_until_async

NOT_JUDGED = StatKey(0, 0, 0, 0)


def queue_of(node: Node, pool: Executor, look_again: LookAgain) -> ImportQueue:
    """A queue that reads archives and lists in one pool; it is not running yet."""
    return ImportQueue(
        node, node.settings, pool, lists=pool, look_again=look_again, doubtful=frozenset()
    )


class Running:
    """The node, its queue, and waiting for what becomes of a path."""

    def __init__(self, node: Node, queue: ImportQueue) -> None:
        self.node, self.queue = node, queue

    def row(self, path: Path) -> SourceRow:
        [row] = self.node.catalog.sources(path=str(path))
        return row

    async def until(self, condition: Callable[[], object]) -> None:
        await wait_until_async(condition, poll_seconds=0.01)

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
        watcher = Watcher(settings.images, settings, keys)
        queue = ImportQueue(
            node,
            settings,
            pool,
            lists=lists,
            look_again=watcher.look_again,
            doubtful=frozenset(),
        )
        tasks = [asyncio.create_task(queue.run()), asyncio.create_task(watcher.run(queue.take))]
        try:
            yield Running(node, queue)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
