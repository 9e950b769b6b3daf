"""The import queue: settled archives become jobs, a bounded number at once. Async.

What always holds: at most one job per path runs; a newer version of a path stops the running job
and replaces it; an archive that ends early or can't be imported now is retried with a growing
delay, and never delays another; a bug that one archive meets is logged with its traceback and ends
that import only. Lists of images have workers of their own, as a registry may be slow to answer.
The work itself is `airside.importer.importer` and `airside.importer.list_importer`, in the pools.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import ParamSpec, Protocol, TypeVar

from airside.agent.current_order import CurrentOrder
from airside.agent.misnamed_files import record_misnamed, shown_path
from airside.agent.node import Node
from airside.agent.outcome_log import log_outcome
from airside.agent.pending_jobs import PendingJobs
from airside.agent.waiting_archive import FIRST_RETRY_SECONDS, WaitingArchive
from airside.archive.checksum_files import may_be_list
from airside.archive.formats.image_list import is_list_name
from airside.archive.preallocated import blocks_of
from airside.core.errors import (
    AirsideError,
    ArchiveChangedError,
    NotFoundError,
    StoppedError,
    StorageFullError,
    StoreError,
    UnavailableError,
)
from airside.core.settings import Settings
from airside.importer.importer import Job, Outcome, job_at
from airside.importer.service import is_utf8
from airside.importer.watch.directories import WatchedDirectories
from airside.importer.watch.settle import Batch
from airside.oci.reference import parse_repository

log = logging.getLogger("airside.import")

LISTS_AT_ONCE = 2
"""Number of lists that are pulled at the same time."""
_RECORD_AGAIN_SECONDS = 2.0
_AT_ONCE = 200
"""Archives that are queued before others may use the event loop."""

P = ParamSpec("P")
T = TypeVar("T")


class LookAgain(Protocol):
    """Makes the watcher report a path again after some time (`Watcher.look_again`)."""

    def __call__(self, path: Path, *, after_seconds: float) -> None: ...


@dataclass(slots=True)
class RunningJob:
    """A running job, for `status`."""

    job: Job
    stop: Event = field(default_factory=Event)
    started_at: float = field(default_factory=time.monotonic)
    done_bytes: int = 0
    total_bytes: int = 0

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        self.done_bytes, self.total_bytes = done_bytes, total_bytes


class ImportQueue:
    """Turns batches of the watcher into imports. Belongs to the event loop's thread.

    `doubtful`: archives of a directory that was empty at the start, perhaps because its file system
    is not mounted: their removal deletes nothing at once.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        pool: Executor,
        *,
        lists: Executor,
        look_again: LookAgain,
        doubtful: frozenset[Path],
    ) -> None:
        self._node, self._settings = node, settings
        self._pool, self._lists = pool, lists
        self._look_again, self._doubtful = look_again, doubtful
        self._places = WatchedDirectories(settings.images)
        for directory in filter(lambda d: d.repository, settings.images):
            parse_repository(directory.repository)
        self._pending = PendingJobs()
        self._order = CurrentOrder()
        self._waiting: dict[Path, WaitingArchive] = {}
        self.running: dict[Path, RunningJob] = {}
        self._work = asyncio.Condition()
        self._stopping = Event()

    @property
    def queued(self) -> int:
        """The number of archives that are imported as soon as a thread is free."""
        return len(self._pending)

    @property
    def waiting(self) -> int:
        """The number of archives that wait for a retry or for the rest of the file."""
        return len(self._waiting)

    # batches of the watcher

    async def take(self, batch: Batch) -> None:
        """Record a batch and queue its archives."""
        fresh = []
        for settled in batch.settled:
            if not is_utf8(settled.path):
                text = await self._record(record_misnamed, self._node, settled)
                log.error("%s: the name is not UTF-8: rename the file", text)
                continue
            waiting = self._waiting.get(settled.path)
            if waiting is not None and waiting.key == str(settled.key):
                await self._unchanged(settled.path, waiting)
            else:
                fresh.append(settled)
                self._waiting.pop(settled.path, None)
        if fresh:
            files = [(str(s.path), str(s.key), s.key.size_bytes) for s in fresh]
            ids = await self._record(
                self._node.catalog.source_states.settle, files, self._node.clock()
            )
            self._doubtful -= {settled.path for settled in fresh}
            if len(fresh) > 1 or len(self._pending):
                await self._order.refresh()
            for count, settled in enumerate(fresh, 1):
                if count % _AT_ONCE == 0:
                    await asyncio.sleep(0)  # a batch may have thousands
                job = job_at(self._places, ids[str(settled.path)], settled.path)
                await self._submit(replace(job, stat_key=str(settled.key)))
        if batch.removed:
            await self._remove(batch.removed)

    async def _record(self, record: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
        """Write to the catalog, and retry until it can be written: no batch is lost."""
        while True:
            try:
                return await asyncio.to_thread(record, *values, **named)
            except StoreError as exc:
                log.warning("catalog: %s; retrying in %d s", exc.message, _RECORD_AGAIN_SECONDS)
                await self._make_room(exc)
                await asyncio.sleep(_RECORD_AGAIN_SECONDS)

    async def _make_room(self, error: StoreError) -> None:
        if isinstance(error, StorageFullError):
            await asyncio.to_thread(self._node.imports.make_room, error)

    async def _unchanged(self, path: Path, waiting: WaitingArchive) -> None:
        """Retry an archive whose bytes did not change; an incomplete one waits until it fails."""
        blocks = await asyncio.to_thread(blocks_of, path, self._places.beneath(path))
        if not waiting.incomplete or waiting.has_moved(blocks):
            job = job_at(self._places, waiting.source_id, path)
            await self._submit(replace(job, stat_key=waiting.key))
            return
        quiet = time.monotonic() - waiting.since
        if quiet < self._settings.incomplete_seconds:
            self._wait_for_more(path, waiting)
            return
        reason = f"the archive ends early and did not grow for {quiet:.0f} s: copy it again"
        reason += f" ({waiting.reason})" if waiting.reason else ""
        log.error("%s: %s", path, reason)
        await self._record(
            self._node.catalog.source_states.set_state,
            waiting.source_id,
            "failed",
            self._node.clock(),
            reason=reason,
        )

    def _wait_for_more(self, path: Path, waiting: WaitingArchive, at_least: float = 0.0) -> None:
        self._look_again(path, after_seconds=max(waiting.delay_seconds, at_least))
        waiting.delay_seconds = min(waiting.delay_seconds * 2, self._settings.retry_seconds)

    async def _remove(self, paths: tuple[Path, ...]) -> None:
        removals: dict[str, str] = {}
        for path in paths:
            self._waiting.pop(path, None)
            self._pending.pop(path)
            if path in self.running:
                self.running[path].stop.set()
            directory = self._places.owner(path)
            policy = directory.on_removal if directory else "unpin"
            if path in self._doubtful and policy == "delete":
                policy = "unpin"
            removals[shown_path(path)] = policy
            log.info("%s: removed", shown_path(path))
        moves = await self._record(self._node.remove, removals)
        if moves:
            await self._record(self._node.collect_garbage)
        await asyncio.to_thread(self._node.importer.write_index)
        lists = [Path(path) for path in removals if may_be_list(Path(path).name)]
        await self._check_again(self._node.imports.checksums.rejected_by, lists)

    async def _check_again(
        self, find: Callable[[list[Path]], list[tuple[int, Path]]], paths: list[Path]
    ) -> None:
        """Queue the archives that lists of checksums concern, which came, changed or went."""
        if not paths:
            return
        for source_id, path in await self._record(find, paths):
            if self._places.owner(path) is not None:
                job = job_at(self._places, source_id, path)
                await self._add(replace(job, for_checksums=True))

    async def submit_path(self, source_id: int, path: Path) -> None:
        """Queue an archive to be imported again."""
        await self._submit(job_at(self._places, source_id, path))

    async def runtime_changed(self) -> None:
        """Queue the lists of which a newly connected runtime lacks images."""
        try:
            behind = await asyncio.to_thread(self._node.lists.behind)
        except StoreError as exc:
            log.warning("lists of images could not be checked: %s", exc.message)
            return
        for source_id, path in behind:
            waiting = self._waiting.get(path)
            if self._places.owner(path) is None:
                continue
            if waiting is not None:
                waiting.delay_seconds = FIRST_RETRY_SECONDS
                self._look_again(path, after_seconds=0.0)
            elif path not in self._pending:  # a running one is not stopped, but run again
                await self._add(job_at(self._places, source_id, path))

    async def _submit(self, job: Job) -> None:
        running = self.running.get(job.path)
        if running is not None:
            running.stop.set()
        await self._add(job)

    async def _add(self, job: Job) -> None:
        async with self._work:
            self._pending.add(job, self._order.of(job))
            self._work.notify_all()

    # jobs

    async def run(self) -> None:
        """Run jobs until cancelled; then stop the running ones and wait for them."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.parallel_imports):
                    group.create_task(self._worker(self._next_archive))
                for _ in range(LISTS_AT_ONCE):
                    group.create_task(self._worker(self._next_list))
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask the running jobs to stop; each stops after its current chunk."""
        self._stopping.set()
        for running in self.running.values():
            running.stop.set()

    async def _worker(self, next_path: Callable[[], Path | None]) -> None:
        while True:
            async with self._work:
                await self._work.wait_for(next_path)
                path = next_path()
                job = None if path is None else self._pending.pop(path)
                assert path is not None
                assert job is not None
                running = self.running[path] = RunningJob(job)
            try:
                await self._run(running)
            finally:
                async with self._work:
                    del self.running[path]
                    self._work.notify_all()

    def _next_archive(self) -> Path | None:
        return self._pending.next_archive(self.running)

    def _next_list(self) -> Path | None:
        return self._pending.next_list(self.running)

    async def _run(self, running: RunningJob) -> None:
        """Run one job and schedule a retry if it needs one."""
        job = running.job
        try:
            outcome = await self._call_job(running)
        except StoppedError:
            return  # replaced, removed, or the agent stops
        except NotFoundError as exc:
            await self._gone(job, exc)
            return
        except ArchiveChangedError as exc:
            log.info("%s", exc.message)
            if job.path not in self._pending:
                self._look_again(job.path, after_seconds=self._settings.settle_seconds)
            return
        except (StoreError, UnavailableError) as exc:
            waiting = self._waiting.get(job.path)
            level = logging.DEBUG if waiting and waiting.reason == exc.message else logging.WARNING
            log.log(level, "%s: import failed: %s; it is retried", job.path, exc.message)
            outcome = await self._failed(job, exc)
        except Exception as exc:  # a bug, in one archive: the others go on
            log.exception("%s: internal error", job.path)
            bug = StoreError(f"internal error, please report it: {type(exc).__name__}: {exc}")
            outcome = replace(await self._failed(job, bug), retry=False)
        before = self._waiting.get(job.path)
        if before is None or before.reason != outcome.reason or not is_list_name(job.path.name):
            log_outcome(outcome)
        await self._check_again(self._node.imports.checksums.waiting_for, list(outcome.named))
        if job.path in self._pending:
            return  # a newer version of it is read in any case
        if outcome.retry:
            self._retry(job, outcome)
        else:
            self._waiting.pop(job.path, None)

    async def _gone(self, job: Job, error: NotFoundError) -> None:
        """Look for the file again: its directory may be unmounted, and come back unchanged."""
        if job.path in self._pending:
            return
        if self._places.owner(job.path) is not None:
            self._look_again(job.path, after_seconds=self._settings.removal_seconds)
        else:  # imported by hand: no watcher reports the file again
            await self._failed(job, error)

    async def _failed(self, job: Job, error: AirsideError) -> Outcome:
        """Record the failure if the catalog can be written. The job is retried in any case."""
        try:
            return await asyncio.to_thread(self._node.importer.failed, job, error)
        except StoreError as exc:
            log.warning("%s: the failure could not be recorded: %s", job.path, exc.message)
            await self._make_room(exc)
            return Outcome(job.path, "failed", reason=error.message, retry=True)

    async def _call_job(self, running: RunningJob) -> Outcome:
        stop = running.stop
        pool = self._lists if is_list_name(running.job.path.name) else self._pool

        def work() -> Outcome:
            return self._node.imports.run(
                running.job,
                stop=lambda: stop.is_set() or self._stopping.is_set(),
                progress=running.progress,
            )

        future = asyncio.get_running_loop().run_in_executor(pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_ended_late)
            raise

    def _retry(self, job: Job, outcome: Outcome) -> None:
        key, incomplete = outcome.stat_key or job.stat_key, outcome.state == "incomplete"
        before = self._waiting.get(job.path)
        waiting = WaitingArchive(key, job.source_id, incomplete, time.monotonic(), outcome.reason)
        if before is not None and before.incomplete == incomplete:
            waiting.delay_seconds = before.delay_seconds
            if before.key == key:
                waiting.since, waiting.blocks = before.since, before.blocks
        self._waiting[job.path] = waiting
        self._wait_for_more(job.path, waiting, outcome.after_seconds)


def _ended_late(future: asyncio.Future[Outcome]) -> None:
    """Log a bug in the job of a cancelled worker, which was asked to stop."""
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, AirsideError):
        log.error("an import ended with an internal error", exc_info=error)
