"""A running watcher and what it told, for tests of the watch."""

import asyncio
import os
from contextlib import asynccontextmanager

from airside.core.settings import Settings, WatchedDirectory
from airside.importer.watch.watcher import Batch, Watcher
from support.waiting import wait_until_async

SETTINGS = Settings(
    settle_seconds=0.1,
    quiet_seconds=0.25,
    rescan_seconds=60.0,
    poll_seconds=0.1,
    removal_seconds=0.2,
)
LONG_AGO = 1_600_000_000


class Log:
    """Takes batches and waits for what they should tell."""

    def __init__(self, watcher):
        self.watcher = watcher
        self.batches = []

    @property
    def settled(self):
        return [one.path.name for batch in self.batches for one in batch.settled]

    @property
    def removed(self):
        return [path.name for batch in self.batches for path in batch.removed]

    @property
    def paths(self):
        return [one.path for batch in self.batches for one in batch.settled]

    def keys(self, name):
        told = [one for batch in self.batches for one in batch.settled if one.path.name == name]
        return [one.key for one in told]

    async def until(self, condition):
        await wait_until_async(condition, poll_seconds=0.01)

    async def has(self, *names):
        """Exactly these settled, in any order, and nothing comes after."""
        await self.until(lambda: sorted(self.settled) == sorted(names))

    async def stays(self, seconds=0.0):
        """Nothing more is reported: nothing is open, after so many seconds of polls and looks."""
        batches = len(self.batches)
        await asyncio.sleep(seconds)
        await self.until(lambda: not self.watcher.unsettled())
        assert self.batches[batches:] == []

    async def mode(self, mode):
        await self.until(lambda: {status.mode for status in self.watcher.describe()} == {mode})


@asynccontextmanager
async def watching(*directories, known=None, settings=SETTINGS, on_batch=None):
    """A running watcher; at the end no task is left."""

    async def take(batch):
        assert isinstance(batch, Batch)
        log.batches.append(batch)
        if on_batch:
            await on_batch(batch)

    watched = [d if isinstance(d, WatchedDirectory) else WatchedDirectory(d) for d in directories]
    watcher = Watcher(watched, settings, known or {})
    log = Log(watcher)
    task = asyncio.create_task(watcher.run(take))
    await log.until(lambda: all(d.reason != "not looked at yet" for d in watcher.describe()))
    try:
        yield log
    finally:
        assert not task.done() or task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}


def old(path, data=b"old", *, at=LONG_AGO):
    """A file with an old mtime. Its ctime is fresh: nobody can set that."""
    path.write_bytes(data)
    os.utime(path, (at, at))
    return path


def with_(**changes):
    values = {name: getattr(SETTINGS, name) for name in Settings.__slots__}
    return Settings(**(values | changes))


async def age():
    """Wait until the ctime of what was just written is old."""
    await asyncio.sleep(SETTINGS.quiet_seconds + 0.05)
