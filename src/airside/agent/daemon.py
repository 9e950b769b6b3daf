"""The agent: the only wiring. It opens the data directory, then serves, watches and repairs.

One `asyncio.TaskGroup` holds every long-lived service. SIGTERM and SIGINT end it
(`airside.agent.stop_request`).
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from airside import __version__
from airside.agent.conditions import Conditions
from airside.agent.control import create_control
from airside.agent.control_socket import serving_control
from airside.agent.import_queue import LISTS_AT_ONCE, ImportQueue
from airside.agent.known_archives import KnownArchives, load_known_archives, record_mounts
from airside.agent.maintenance import Maintenance
from airside.agent.memory import keep_started, keep_together
from airside.agent.metrics_server import serving_metrics
from airside.agent.node import Node, open_node
from airside.agent.probes import Probes
from airside.agent.registry_server import AddRoutes, RegistryServer
from airside.agent.release import ReleaseRequest
from airside.agent.runtime_connections import check_names, connect
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.agent.scrub_scheduler import ScrubScheduler
from airside.agent.service_manager import ServiceManager
from airside.agent.status import LiveStatus
from airside.agent.stop_request import StopRequest
from airside.containerd.sockets import find_sockets
from airside.core.config import EffectiveSettings, default_directories
from airside.core.errors import AirsideError, StoreError
from airside.core.logs import set_up_logs
from airside.core.priority import BY_NAME
from airside.core.settings import Settings
from airside.importer.watch.directories import WatchedDirectories
from airside.importer.watch.mount_table import Remembered
from airside.importer.watch.watcher import Watcher
from airside.page.reports import Reports
from airside.page.routes import Page
from airside.page.upload_form import FormAnswers
from airside.page.uploads.archive_uploads import ArchiveUploads
from airside.page.uploads.http import UploadRoutes
from airside.page.uploads.results import ImportResults
from airside.store.access_modes import PRIVATE_UMASK, group_id
from airside.store.filesystem import make_directories
from airside.telemetry.endpoints import Endpoints
from airside.telemetry.tracing import opened_meters
from airside.telemetry.webhooks.follower import WebhookFollower
from airside.telemetry.webhooks.service import check_webhook_files, followers

log = logging.getLogger("airside.agent")

_READ_THREADS = 4
_PUSH_THREADS = 32
_FETCH_THREADS = 8
_CHECK_THREADS = 2
_SWITCH_SECONDS = 0.001
"""A busy thread lets others run after this time: the event loop waits for it several times for
each request. Python's default is 5 ms."""


def run_agent(effective: EffectiveSettings) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code. Raises AirsideError at start."""
    settings = effective.settings
    os.umask(PRIVATE_UMASK)
    set_up_logs(form=settings.log_format, level=settings.log_level)
    check_names(settings)
    check_webhook_files(settings.webhooks)
    keep_together()
    sys.setswitchinterval(_SWITCH_SECONDS)
    _make_default_directory(settings)
    manager = ServiceManager()
    try:
        with (
            manager.starting(),
            opened_meters(settings) as meters,
            open_node(settings, meters=meters) as node,
        ):
            return asyncio.run(_run(settings, node, manager))
    except* AirsideError as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[AirsideError]) -> AirsideError:
    found: Any = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, AirsideError)
    return found


def _make_default_directory(settings: Settings) -> None:
    """Create the default watched directory; one that the user named may be created later."""
    default = default_directories()[0]
    if any(directory.path == default for directory in settings.images):
        with suppress(OSError):
            make_directories(default)


async def _run(settings: Settings, node: Node, manager: ServiceManager) -> int:
    stop = StopRequest(settings.stop_seconds)
    directories = WatchedDirectories(settings.images)
    known = await asyncio.to_thread(load_known_archives, node, directories)
    await _Agent(settings, node, known, stop).run(manager)
    log.info("stopped")
    return 0


class _Pools:
    """The agent's thread pools, bounded and named."""

    def __init__(self, settings: Settings) -> None:
        lower = BY_NAME[settings.import_priority].apply  # the threads that they start inherit it
        self.imports = ThreadPoolExecutor(settings.parallel_imports, "imports", lower)
        self.lists = ThreadPoolExecutor(LISTS_AT_ONCE, "lists")
        self.reads = ThreadPoolExecutor(_READ_THREADS, "reads")
        self.by_hand = ThreadPoolExecutor(1, "imports-by-hand", lower)
        self.pushes = ThreadPoolExecutor(_PUSH_THREADS, "pushes")
        self.fetches = ThreadPoolExecutor(_FETCH_THREADS, "fetches")
        self.checks = ThreadPoolExecutor(_CHECK_THREADS, "checks")

    def close(self) -> None:
        """Wait for what runs and drop what waits. Blocking."""
        first = (self.imports, self.lists, self.by_hand, self.reads, self.pushes)
        for pool in (*first, self.fetches, self.checks):
            pool.shutdown(wait=True, cancel_futures=True)


class _Agent:
    """The services, wired. Made in the running event loop."""

    def __init__(
        self, settings: Settings, node: Node, known: KnownArchives, stop: StopRequest
    ) -> None:
        self._settings, self._node, self._stop = settings, node, stop
        self._pools = pools = _Pools(settings)
        self._watcher = Watcher(
            settings.images,
            settings,
            known.keys,
            mounted=known.mounts,
            on_mounts=self._record_mounts,
        )
        self._queue = ImportQueue(
            node,
            settings,
            pools.imports,
            lists=pools.lists,
            look_again=self._watcher.look_again,
            doubtful=known.doubtful,
        )
        self._scrubs = ScrubScheduler(node, settings, self._queue)
        self._runtimes = RuntimeSupervisor(
            node,
            settings,
            partial(find_sockets, settings.runtime),
            partial(connect, node),
            self._runtime_connected,
        )
        self._maintenance = Maintenance(node, settings, self._queue, self._runtimes)
        self._registry = RegistryServer(
            settings,
            node,
            reads=pools.reads,
            pushes=pools.pushes,
            fetches=pools.fetches,
            checks=pools.checks,
        )
        self._status = LiveStatus(
            settings,
            node,
            registry=self._registry,
            watcher=self._watcher,
            runtimes=self._runtimes,
            queue=self._queue,
            maintenance=self._maintenance,
        )
        self._page, self._uploads = self._pages_of(pools)
        hashing = node.store.verified
        for end in (self._queue.stop, self._scrubs.stop, self._runtimes.stop, hashing.stop):
            stop.listeners.subscribe(end)
        stop.listeners.subscribe(self._excuse_imports)

    async def run(self, manager: ServiceManager) -> None:
        """Serve until a stop is asked for, then end what runs."""
        control = create_control(
            self._node,
            self._status.report,
            reads=self._pools.reads,
            imports=self._pools.by_hand,
            published=self._runtimes.settled,
            verify=self._scrubs.verify,
            contents=self._node.runtimes.contents_by_socket,
            release=ReleaseRequest(self._node, self._pools.reads, self._runtimes.connected).answer,
        )
        endpoints = self._endpoints()
        await self._uploads.load()
        try:
            async with (
                self._registry.serving(endpoints.add_to, *self._pages()),
                serving_metrics(self._settings, endpoints),
                serving_control(
                    control, self._settings.data, group=group_id(self._settings.data_group)
                ),
            ):
                self._log_ready(manager)
                keep_started()
                await self._serve(manager)
        finally:
            self._queue.stop()
            await asyncio.to_thread(self._scrubs.close)
            await asyncio.to_thread(self._pools.close)
            self._node.pusher.uploads.close()
            await asyncio.to_thread(self._node.importer.write_index)

    def _endpoints(self) -> Endpoints:
        """Returns the endpoints for machines."""
        probes = Probes(
            self._node,
            self._settings,
            registry=self._registry,
            watcher=self._watcher,
            queue=self._queue,
            runtimes=self._runtimes,
            reads=self._pools.reads,
        )
        return probes.endpoints()

    def _pages_of(self, pools: _Pools) -> tuple[Page, UploadRoutes]:
        """Make the web page and its uploads."""
        node, settings = self._node, self._settings
        uploads = ArchiveUploads(settings, node.store.space)
        reports = Reports(node.catalog, settings, node.runtimes.contents_by_socket, node.missing)
        page = Page(
            reports,
            self._status.report,
            lambda: (node.catalog.generation, self._runtimes.passes),
            reads=pools.reads,
            upload_refusal=uploads.refusal,
        )
        upload_routes = UploadRoutes(
            uploads,
            pools.pushes,
            ImportResults(node.catalog),
            FormAnswers(page.view).answer,
        )
        return page, upload_routes

    def _followers(self) -> Iterator[WebhookFollower]:
        """Yield what sends events to each webhook."""
        node = self._node
        return followers(self._settings.webhooks, node.catalog, node.meters, self._pools.reads)

    def _pages(self) -> Iterator[AddRoutes]:
        """Yield what is served beside the registry."""
        if self._settings.page:
            yield self._page.add_routes
            yield self._uploads.add_routes

    async def _serve(self, manager: ServiceManager) -> None:
        """Run the services until one fails or a stop is asked for."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._queue.run()),
                group.create_task(self._watcher.run(self._queue.take)),
                group.create_task(self._runtimes.run()),
                group.create_task(self._scrubs.run()),
                group.create_task(self._registry.run()),
                group.create_task(self._maintenance.run()),
                group.create_task(self._uploads.run()),
                group.create_task(Conditions(self._node, self._runtimes).run()),
                *(group.create_task(each.run()) for each in self._followers()),
                group.create_task(manager.run()),
            ]
            await self._stop.wait()
            manager.stopping()
            for task in tasks:
                task.cancel()

    def _excuse_imports(self) -> None:
        """Record that a stop was asked for: running imports that it ends do not count as deaths."""

        def excuse() -> None:
            with suppress(StoreError):
                self._node.catalog.attempts.excuse()

        threading.Thread(target=excuse, name="excuse-imports", daemon=True).start()

    async def _runtime_connected(self) -> None:
        """Repair from the runtime what only it stores, and pull what it lacks of the lists."""
        await self._scrubs.runtime_changed()
        await self._queue.runtime_changed()

    async def _record_mounts(self, mounts: Remembered) -> None:
        """Record mounts, so that after a restart what is unmounted is not taken for removed."""
        try:
            await asyncio.to_thread(record_mounts, self._node.catalog, mounts)
        except StoreError as exc:
            log.warning("the mounts of the archives could not be recorded: %s", exc.message)

    def _log_ready(self, manager: ServiceManager) -> None:
        where = ", ".join(str(directory.path) for directory in self._settings.images)
        log.info("airside %s ready in %.2f s", __version__, _process_seconds())
        log.info("watching %s", where)
        self._registry.log_address()
        manager.ready(f"serving {self._registry.address or 'no registry'}; watching {where}")


def _process_seconds() -> float:
    """Seconds since this process started, with the loading of Python's modules."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
