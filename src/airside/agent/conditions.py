"""Records events for conditions that begin and end: low free space, a runtime that is away. Async.

A condition is told once when it begins and once when it ends; after a restart it begins again.
"""

import asyncio
import json
import logging
from collections.abc import Callable

from airside.agent.node import Node
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.core.errors import StoreError
from airside.telemetry.bounded_reader import BoundedReader
from airside.telemetry.health import AWAY_SECONDS

log = logging.getLogger("airside.agent")

LOOK_SECONDS = 5.0
SPACE_LOOKS = 6
"""The free space is looked at every so many looks."""


class Conditions:
    """Watches the conditions of one agent. Belongs to the event loop's thread."""

    def __init__(self, node: Node, runtimes: RuntimeSupervisor) -> None:
        self._node, self._runtimes = node, runtimes
        self._space = BoundedReader(node.garbage.space)
        self._known: set[tuple[str, str]] = set()
        """Conditions that were told: kind and object."""

    async def run(self) -> None:
        """Looks until cancelled."""
        looks = 0
        while True:
            await self._look_at_runtimes()
            if looks % SPACE_LOOKS == 0:
                await self._look_at_space()
            looks += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at_runtimes(self) -> None:
        for socket, away_seconds in self._runtimes.away():
            detail = {"runtime": socket}
            if away_seconds is None:
                await self._ended("runtime-away", "runtime-back", socket, detail)
            elif AWAY_SECONDS < away_seconds < float("inf"):
                detail["seconds"] = str(round(away_seconds))
                await self._began("runtime-away", socket, detail)

    async def _look_at_space(self) -> None:
        space = await self._space.get()
        if space is None:
            return
        detail = {"free_bytes": space.free_bytes, "wanted_bytes": space.wanted_bytes}
        if space.low:
            await self._began("low-space", "", detail)
        else:
            await self._ended("low-space", "space-back", "", detail)

    async def _began(self, kind: str, what: str, detail: object) -> None:
        if (kind, what) not in self._known and await self._record(kind, detail):
            self._known.add((kind, what))

    async def _ended(self, kind: str, end: str, what: str, detail: object) -> None:
        if (kind, what) in self._known and await self._record(end, detail):
            self._known.discard((kind, what))

    async def _record(self, kind: str, detail: object) -> bool:
        record: Callable[..., None] = self._node.catalog.event_log.record
        try:
            await asyncio.to_thread(record, kind, self._node.clock(), json.dumps(detail))
        except StoreError as exc:
            log.debug("event %s is not recorded: %s", kind, exc.message)
            return False
        return True
