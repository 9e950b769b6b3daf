"""The order of the imports that wait, by what pods want at this moment. Async."""

import asyncio
import time

from airside.agent.import_order import ImportOrder, Rank
from airside.containerd.pod_files import images_in_pod_files
from airside.core.host_root import host_root
from airside.importer.importer import Job

_REMEMBERED_SECONDS = 10.0


class CurrentOrder:
    """The order of imports. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._order, self._until = ImportOrder(), 0.0

    async def refresh(self) -> None:
        """Reads which images pods want, unless that was read a moment ago."""
        if time.monotonic() >= self._until:
            self._order = ImportOrder(await asyncio.to_thread(images_in_pod_files, host_root()))
            self._until = time.monotonic() + _REMEMBERED_SECONDS

    def of(self, job: Job) -> Rank:
        """Returns the rank; the lowest goes first."""
        return self._order.of(job)
