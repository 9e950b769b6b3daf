"""Schedules the verification of the store: slowly in the background, at once by hand. Async.

One thread makes the passes that are due (`airside.store.scrub`). The thread has the kernel's lowest
priority, reads no faster than `scrub_bytes_per_second`, waits while archives are imported, aborts
its pass for a verification by hand, and stops within a chunk.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from airside.agent.import_queue import ImportQueue
from airside.agent.node import Node
from airside.core.errors import StoppedError, StoreError
from airside.core.priority import LEAST
from airside.core.settings import Settings
from airside.oci.digest import Digest
from airside.store.repair import Stop
from airside.store.scrub import ScrubReport
from airside.store.scrub_results import Pace, ScrubPass

log = logging.getLogger("airside.scrub")

LOOK_SECONDS = 60.0
"""Time between two checks whether a pass is due."""
_BUSY_SECONDS = 0.5
_READ_POLL_SECONDS = 0.1
_READ_SECONDS = 6 * 3600.0
"""The longest wait until archives are imported again for a repair; then other sources are tried."""


class ScrubScheduler:
    """Makes passes over the store. Belongs to the event loop's thread."""

    def __init__(self, node: Node, settings: Settings, queue: ImportQueue) -> None:
        self._node, self._settings, self._queue = node, settings, queue
        self._slow = ThreadPoolExecutor(1, "scrub", initializer=LEAST.apply)
        self._fast = ThreadPoolExecutor(1, "verify")
        self._fast.submit(int)  # begins the thread here: else it inherits the priority of an import
        self._stopping = threading.Event()
        self._by_hand = threading.Event()
        self._lock = threading.Lock()
        self._suspects: set[Digest] = set()
        self._loop = asyncio.get_running_loop()
        node.store.replaced.subscribe(self._blobs_replaced)
        node.store.suspects.added.subscribe(self._suspects_added)

    async def run(self) -> None:
        """Make the passes that are due, until cancelled."""
        period = self._settings.scrub_seconds
        if not period:
            await asyncio.Event().wait()
        while not self._stopping.is_set():
            await asyncio.sleep(min(LOOK_SECONDS, period))
            if self._by_hand.is_set():
                continue
            try:
                found = await asyncio.to_thread(self._node.scrub.due, period)
                if found is not None:
                    await self._background(found)
            except StoppedError as exc:
                log.debug("%s", exc.message)
            except StoreError as exc:
                log.warning(
                    "scrub failed: %s; retrying in %d s", exc.message, min(LOOK_SECONDS, period)
                )

    async def _background(self, found: ScrubPass) -> ScrubReport:
        pace = Pace(self._settings.scrub_bytes_per_second)

        def each(count: int) -> None:
            self._wait(pace.wait_seconds(count, time.monotonic()))
            while self._queue.running:
                self._wait(_BUSY_SECONDS)
            if self._by_hand.is_set():
                raise StoppedError("somebody verifies the store by hand")

        def work() -> ScrubReport:
            return self._node.scrub.background(
                found, read=self._read_archives, each=each, stop=self._stopping.is_set
            )

        future = self._loop.run_in_executor(self._slow, work)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(future)

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise StoppedError("the verification was stopped")

    async def verify(
        self, *, repair: bool, stop: Stop, progress: Callable[[int, int], None]
    ) -> ScrubReport:
        """Verify everything now. Raises ConflictError, StoppedError, StoreError."""

        def work() -> ScrubReport:
            self._by_hand.set()
            try:
                return self._node.scrub.verify(
                    read=self._read_archives if repair else None,
                    stop=lambda: stop() or self._stopping.is_set(),
                    progress=progress,
                )
            finally:
                self._by_hand.clear()

        return await self._loop.run_in_executor(self._fast, work)

    async def runtime_changed(self) -> None:
        """Repair blobs from a newly connected runtime, and its own damaged files."""
        try:
            await self._loop.run_in_executor(
                self._fast, self._node.scrub.retry, self._stopping.is_set
            )
        except (StoreError, StoppedError) as exc:
            log.warning("repair from the runtime failed: %s", exc.message)

    def suspect(self, digest: Digest) -> None:
        """Examine a blob that was found wrong, and repair it. Thread-safe; returns at once."""
        with self._lock:
            if digest in self._suspects or self._stopping.is_set():
                return
            self._suspects.add(digest)
        self._submit(self._examine, digest)

    def _suspects_added(self) -> None:
        for digest in self._node.store.suspects.take():
            self.suspect(digest)

    def _submit(self, job: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the pool was closed just now: the next start looks again
            self._fast.submit(self._logged, job, *args)

    def _logged(self, job: Callable[..., None], *args: object) -> None:
        try:
            job(*args)
        except (StoreError, StoppedError) as exc:
            log.warning("repair failed: %s; the next scrub tries again", exc.message)

    def _examine(self, digest: Digest) -> None:
        try:
            scrub, size = self._node.scrub, self._node.catalog.blob_size(digest)
            if size is None:
                return
            items = scrub.look(digest, size, lambda _count: None, repair=True)
            wrong = [item for item in items if item.problem != "wrong-record" and not item.is_fine]
            lost = [replace(item, result="lost") for item in wrong]
            scrub.repair.run(lost, self._stopping.is_set, self._read_archives)
        finally:
            with self._lock:
                self._suspects.discard(digest)

    def _blobs_replaced(self) -> None:
        """Replace containerd's hard links to wrong files that the store replaced."""
        self._submit(partial(self._node.scrub.repair.mend_all, everything=True))

    def stop(self) -> None:
        """Stop the running passes after their current chunk."""
        self._stopping.set()

    def close(self) -> None:
        """Stop and wait for the threads. Blocking."""
        self.stop()
        for pool in (self._slow, self._fast):
            pool.shutdown(wait=True, cancel_futures=True)

    def _read_archives(self, sources: Sequence[tuple[int, Path]], stop: Stop) -> None:
        """Queue archives to be imported again and wait for them. Called from a pass's thread."""
        for source_id, path in sources:
            asyncio.run_coroutine_threadsafe(self._queue.submit_path(source_id, path), self._loop)
        ids = [source_id for source_id, _ in sources]
        end = time.monotonic() + _READ_SECONDS
        while time.monotonic() < end and self._node.catalog.unread_of(ids):
            if stop():
                raise StoppedError("the repair was stopped")
            self._wait(_READ_POLL_SECONDS)
