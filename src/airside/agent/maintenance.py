"""Periodic work of the agent: self-repair, `index.json`, backups, idle uploads, memory. Async."""

import asyncio
import logging
from functools import partial

from airside.agent.import_queue import ImportQueue
from airside.agent.memory import give_back
from airside.agent.node import Node
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.agent.space_history import note_space
from airside.core.errors import StoreError
from airside.core.settings import Settings
from airside.diagnostics.space_forecast import SAMPLE_SECONDS
from airside.importer.watch.directories import WatchedDirectories

log = logging.getLogger("airside.agent")

_INDEX_SECONDS = 1.0
"""`index.json` is written at most so often for pushes."""
_COPY_SECONDS = 3.0
"""A change of `index.json` is copied to the backup within this time, and at a clean stop."""
_SWEEP_SECONDS = 60.0
_GIVE_BACK_SECONDS = 5.0


class Maintenance:
    """Runs the periodic work of one node. Belongs to the event loop's thread."""

    def __init__(
        self, node: Node, settings: Settings, queue: ImportQueue, runtimes: RuntimeSupervisor
    ) -> None:
        self._node, self._settings = node, settings
        self._queue, self._runtimes = queue, runtimes
        self._directories = WatchedDirectories(settings.images)
        self._index_outdated = asyncio.Event()
        self._writes_index = False
        loop = asyncio.get_running_loop()
        node.index_outdated.subscribe(partial(loop.call_soon_threadsafe, self._index_outdated.set))

    @property
    def is_indexing(self) -> bool:
        """True while `index.json` lacks a change of the catalog."""
        return self._index_outdated.is_set() or self._writes_index

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reconcile())
            group.create_task(self._write_index())
            group.create_task(self._back_index_up())
            group.create_task(self._back_catalog_up())
            group.create_task(self._sweep_uploads())
            group.create_task(self._give_memory_back())
            group.create_task(self._note_space())

    async def _reconcile(self) -> None:
        """Repair the store periodically; queue the archives that are to be imported again."""
        for source_id, path in await asyncio.to_thread(self._node.imports.unread):
            if self._directories.owner(path) is None:
                await self._queue.submit_path(source_id, path)
        while True:
            await asyncio.sleep(self._settings.reconcile_seconds)
            try:
                for source_id, path in await asyncio.to_thread(self._node.reconcile):
                    await self._queue.submit_path(source_id, path)
            except StoreError as exc:
                seconds = self._settings.reconcile_seconds
                log.warning("self-repair failed: %s; retrying in %d s", exc.message, seconds)

    async def _write_index(self) -> None:
        """Write `index.json` after pushes."""
        while True:
            await self._index_outdated.wait()
            self._index_outdated.clear()
            self._writes_index = True
            await asyncio.to_thread(self._node.importer.write_index)
            self._writes_index = False
            await asyncio.sleep(_INDEX_SECONDS)

    async def _back_index_up(self) -> None:
        """Copy a changed `index.json`, so that names outlive catalog and file."""
        copied = ""
        while True:
            await asyncio.sleep(_COPY_SECONDS)
            if self._node.index.state != copied:
                copied = self._node.index.state
                await asyncio.to_thread(self._node.save_index)

    async def _back_catalog_up(self) -> None:
        """Copy a changed catalog every `backup_seconds`."""
        period, copied = self._settings.backup_seconds, -1
        while period:
            await asyncio.sleep(period)
            generation = self._node.catalog.generation
            if generation == copied:
                continue
            try:
                if await asyncio.to_thread(self._node.save_catalog):
                    copied = generation
            except StoreError as exc:
                log.warning("backup failed: %s; retrying in %d s", exc.message, period)

    async def _sweep_uploads(self) -> None:
        """Cancel uploads that were idle for too long."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            swept = await asyncio.to_thread(self._node.pusher.uploads.sweep)
            if swept:
                log.info("%d uploads were idle for too long: cancelled", swept)

    async def _note_space(self) -> None:
        """Record the free space every hour."""
        await asyncio.sleep(_SWEEP_SECONDS)
        while True:
            await asyncio.to_thread(note_space, self._node)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _give_memory_back(self) -> None:
        """Return memory to the system some time after work, while no archive is imported."""
        given: tuple[int, int] | None = None
        while True:
            await asyncio.sleep(_GIVE_BACK_SECONDS)
            done = (self._node.catalog.generation, self._runtimes.passes)
            if done != given and not self._queue.running:
                given = done
                await asyncio.to_thread(give_back)
