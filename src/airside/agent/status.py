"""The part of `airside status` that only the running agent knows. Async.

The free space is read in a thread and for a bounded time: a disk that hangs holds up nobody.
"""

import os
import time
from typing import Any

from airside.agent.import_queue import ImportQueue, RunningJob
from airside.agent.maintenance import Maintenance
from airside.agent.node import Node
from airside.agent.registry_server import RegistryServer
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.core.settings import Settings
from airside.diagnostics.reports import space_report
from airside.importer.watch.watcher import Watcher
from airside.telemetry.bounded_reader import BoundedReader

_SPACE_SECONDS = 0.5


class LiveStatus:
    """Reports on the agent's services. Belongs to the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        *,
        registry: RegistryServer,
        watcher: Watcher,
        runtimes: RuntimeSupervisor,
        queue: ImportQueue,
        maintenance: Maintenance,
    ) -> None:
        self._settings, self._registry = settings, registry
        self._watcher, self._runtimes, self._queue = watcher, runtimes, queue
        self._maintenance = maintenance
        self._started_at = time.monotonic()
        self._space = BoundedReader(node.garbage.space, wait_seconds=_SPACE_SECONDS)

    async def report(self) -> dict[str, Any]:
        """Returns the report, as docs/cli.md describes it. `space`: None if the disk hangs."""
        space = await self._space.get()
        return {
            "running": True,
            "pid": os.getpid(),
            "data": str(self._settings.data),
            **self._registry.describe(),
            "read_through": self._settings.read_through,
            "uptime_seconds": round(time.monotonic() - self._started_at, 1),
            "directories": [
                {"path": str(d.path), "mode": d.mode, "reason": d.reason, "files": d.files}
                for d in self._watcher.describe()
            ],
            "runtimes": self._runtimes.describe(),
            "imports": [_import(running) for running in self._queue.running.values()],
            "activity": self._activity(),
            "space": None if space is None else space_report(space),
        }

    def _activity(self) -> dict[str, Any]:
        """The work under way. `idle`: nothing changes until something happens outside."""
        counts = {
            "settling": self._watcher.unsettled(),
            "queued": self._queue.queued,
            "importing": len(self._queue.running),
            "indexing": int(self._maintenance.is_indexing),
            "publishing": self._runtimes.behind(),
        }
        return {"idle": not any(counts.values()), **counts, "waiting": self._queue.waiting}


def _import(running: RunningJob) -> dict[str, Any]:
    seconds = max(time.monotonic() - running.started_at, 0.001)
    return {
        "path": str(running.job.path),
        "done_bytes": running.done_bytes,
        "total_bytes": running.total_bytes,
        "rate_bytes_per_second": round(running.done_bytes / seconds),
    }
