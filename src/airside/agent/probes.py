"""What `/healthz`, `/readyz` and `/metrics` say of one agent: the checks and numbers, wired. Async.

The disk and the catalog are read in threads and for a bounded time; the services are asked on the
event loop, where they live.
"""

import platform
import time
from concurrent.futures import Executor
from typing import Any

from airside import __version__
from airside.agent.import_queue import ImportQueue
from airside.agent.misnamed_files import shown_path
from airside.agent.node import Node
from airside.agent.registry_server import RegistryServer
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.core.settings import Settings
from airside.importer.watch.directory_state import NOT_LOOKED_AT
from airside.importer.watch.watcher import Watcher
from airside.telemetry.bounded_reader import BoundedReader
from airside.telemetry.endpoints import Endpoints
from airside.telemetry.health import Health, WorkerThreads, runtimes_reason
from airside.telemetry.meters import Numbers
from airside.telemetry.samples import (
    DirectoryUp,
    Live,
    RuntimeUp,
    catalog_numbers,
    joined,
    live_numbers,
    space_numbers,
)

_FALLBACK_UP = frozenset({"running", "starting"})


class Probes:
    """Makes the endpoints of one agent. Belongs to the event loop's thread."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        *,
        registry: RegistryServer,
        watcher: Watcher,
        queue: ImportQueue,
        runtimes: RuntimeSupervisor,
        reads: Executor,
    ) -> None:
        self._node, self._settings, self._registry = node, settings, registry
        self._watcher, self._queue, self._runtimes = watcher, queue, runtimes
        self._space = BoundedReader(lambda: space_numbers(node.garbage.space()))
        self._catalog = BoundedReader(lambda: catalog_numbers(node.catalog))
        self._catalog_answers = BoundedReader(node.catalog.event_log.newest)
        self._threads = WorkerThreads(reads, self._disk_answers)

    def endpoints(self) -> Endpoints:
        """Returns the endpoints."""
        ready = (
            ("store", self._check_store),
            ("catalog", self._check_catalog),
            ("directories", self._check_directories),
            ("registry", self._check_registry),
            ("runtimes", self._check_runtimes),
        )
        return Endpoints([("threads", self._threads.check)], ready, self._collect)

    # checks

    async def _disk_answers(self) -> bool:
        return await self._space.get() is not None

    async def _check_store(self) -> str:
        return "" if await self._disk_answers() else "its disk does not answer"

    async def _check_catalog(self) -> str:
        return "" if await self._catalog_answers.get() is not None else "it cannot be read"

    async def _check_directories(self) -> str:
        pending = sum(d.reason == NOT_LOOKED_AT for d in self._watcher.describe())
        return f"{pending} not looked at yet" if pending else ""

    async def _check_registry(self) -> str:
        is_silent = bool(self._settings.listen) and self._registry.address is None
        return "not listening" if is_silent else ""

    async def _check_runtimes(self) -> str:
        if not self._runtimes.has_looked and self._settings.runtime != ("none",):
            return "not looked for yet"
        return runtimes_reason([seconds for _, seconds in self._runtimes.away()])

    # numbers

    async def _collect(self, health: Health) -> Numbers:
        catalog, space = await self._catalog.get(), await self._space.get()
        found: dict[str, Any] = {
            "airside_build_info": {(__version__, platform.python_version()): 1},
            "airside_ready": {(each.name,): int(not each.reason) for each in health.findings},
            "airside_sample_up": {
                ("catalog",): int(catalog is not None),
                ("space",): int(space is not None),
            },
        }
        meters = self._node.meters.read()
        return joined([found, live_numbers(self._live()), catalog or {}, space or {}, meters])

    def _live(self) -> Live:
        queue, (connections, refused) = self._queue, self._registry.connections
        now = time.monotonic()
        stages = {
            "settling": self._watcher.unsettled(),
            "queued": queue.queued,
            "importing": len(queue.running),
            "waiting": queue.waiting,
        }
        fallback = self._registry.describe().get("fallback")
        return Live(
            stages,
            max((now - running.started_at for running in queue.running.values()), default=0.0),
            tuple(
                RuntimeUp(socket, away is None, self._runtimes.layers(socket))
                for socket, away in self._runtimes.away()
            ),
            tuple(
                DirectoryUp(shown_path(d.path), d.mode in {"inotify", "polling"}, d.files)
                for d in self._watcher.describe()
            ),
            connections,
            refused,
            None if fallback is None else fallback["state"] in _FALLBACK_UP,
        )
