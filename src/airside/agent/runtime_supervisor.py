"""Finds and connects the container runtimes, and publishes the catalog's images to them. Async.

One task for each socket. The task connects with back-off, whatever happens to containerd. It runs a
pass (`airside.containerd.publisher`) at once after each change of the catalog, a moment after
somebody changed the runtime's images (one pass for a burst), and every `reconcile_seconds`.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from airside.agent.node import Node
from airside.agent.runtime_connections import claimed_by, forget_wiped
from airside.containerd.publish_pass import Pass
from airside.containerd.publisher import Publisher
from airside.core.errors import AirsideError, ContainerdError, StoppedError
from airside.core.settings import Settings
from airside.ports.content import OtherAgent, Runtime
from airside.ports.outcome import Change

log = logging.getLogger("airside.runtime")

LOOK_SECONDS = 5.0
"""Time between two searches for new sockets."""
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.25, 10.0
_QUIET_SECONDS = 0.5
"""The time without a change of the runtime's images after which a pass is made."""
_BURST_SECONDS = 5.0
"""The longest wait for the end of a burst of changes."""
SETTLED_SECONDS = 600.0
"""The longest time that an import by hand waits until its images are published."""
_POD_SECONDS = 30.0
"""The time after a container began or ended in which its pod may want any image."""
_LONGEST_PAUSE_SECONDS = 600.0
"""The longest time without a pass: by its passes an agent is seen to live (`agent_claim`)."""
_THREADS = 4

P = ParamSpec("P")
T = TypeVar("T")
Connect = Callable[[str], Runtime]
Find = Callable[[], list[str]]
OnConnect = Callable[[], Awaitable[None]]
"""Awaited when a runtime is connected."""


class _RuntimeState:
    """The state of one runtime."""

    def __init__(self, socket: str, publisher: Publisher) -> None:
        self.socket, self.publisher = socket, publisher
        self.runtime: Runtime | None = None
        self.reason = "not connected yet"
        self.wake = asyncio.Event()
        self.disturbed_at = 0.0
        self.container_at = -math.inf
        """The time at which a container last began or ended, by the monotonic clock."""
        self.away_since: float | None = -math.inf
        """When it was lost, by the monotonic clock; `-inf`: never connected; None: connected."""
        self.pass_at = self.checked_at = 0.0
        """When the last pass began, and the last that checked everything."""
        self.is_busy = False
        """True while a pass runs."""
        self.lost = False
        """True if its events ended: it disconnected, and may have been replaced."""
        self.seen_generation = -1
        self.last: Pass | None = None
        self.foreign = 0
        self.other: OtherAgent | None = None

    def took_turn(self, done: Pass) -> None:
        """Notes a finished pass; logs that another agent has the runtime now, or no longer."""
        if done.other != self.other:
            if done.other is not None:
                log.warning("%s: %s: nothing is published", self.socket, claimed_by(done.other))
            else:
                log.info("%s: the other agent has gone: publishing", self.socket)
        self.other, self.foreign = done.other, done.foreign

    @property
    def has_waiting(self) -> bool:
        """True if images wait for their restore: the next pod may want one."""
        return self.last is not None and self.last.waiting > 0

    def concerns(self, change: Change) -> bool:
        """Returns True if a pass is due after a change in the runtime."""
        if not change.is_container:
            return True
        if change.has_ended:
            return self.last is not None and self.last.in_use > 0
        return self.has_waiting

    @property
    def has_work(self) -> bool:
        """True while a pass runs or is due."""
        return self.runtime is not None and (self.is_busy or self.wake.is_set())

    def describe(self) -> dict[str, Any]:
        facts = self.runtime.facts if self.runtime is not None else None
        found: dict[str, Any] = {
            "socket": self.socket,
            "connected": facts is not None,
            "reason": self.reason or claimed_by(self.other),
        }
        if facts is None:
            return found
        return found | {
            "version": facts.version,
            "cri": facts.has_cri,
            "knows_pins": facts.knows_pins,
            "snapshotter": facts.snapshotter,
            "unpacks": facts.unpacks,
            "content_root": facts.content_root,
            "streams_because": facts.why_streamed,
            "copies_because": facts.why_copied,
            "blobs": dict(facts.ways),
            "layers": dict(facts.unpacking.layers),
            "applies_because": facts.unpacking.why_applied if facts.unpacks else "",
            "layers_written_by": facts.unpacking.writes_by if facts.unpacks else "",
            "last_applied_because": facts.unpacking.why_unusual,
            "foreign_names": self.foreign,
            "other_agent": self._other_agent(),
        }

    def _other_agent(self) -> dict[str, Any] | None:
        other = self.other
        if other is None:
            return None
        return {"identity": other.identity, "data": other.data, "pid": other.pid or None}


class RuntimeSupervisor:
    """Supervises all runtimes of the node. Belongs to the event loop's thread, except `changed`."""

    def __init__(
        self, node: Node, settings: Settings, find: Find, connect: Connect, on_connect: OnConnect
    ) -> None:
        self._node, self._settings = node, settings
        self._find, self._connect, self._on_connect = find, connect, on_connect
        self._states: dict[str, _RuntimeState] = {}
        self._pool = ThreadPoolExecutor(_THREADS, "publish")
        self._stopping = threading.Event()
        self.has_looked = False
        """True once the sockets were looked for."""
        self.passes = 0
        """The number of finished passes."""
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
        self._loop = asyncio.get_running_loop()
        unsubscribe = self._node.catalog.changes.subscribe(self.changed)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for socket in await asyncio.to_thread(self._find):
                        if socket not in self._states:
                            self._states[socket] = self._new(socket)
                            group.create_task(self._supervise(self._states[socket]))
                    self.has_looked = True
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            unsubscribe()
            self.stop()
            await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    def _new(self, socket: str) -> _RuntimeState:
        node = self._node
        publisher = Publisher(
            socket,
            node.catalog,
            node.store,
            self._settings,
            node.clock,
            node.document_memory,
            meter=node.meters,
        )
        return _RuntimeState(socket, publisher)

    def stop(self) -> None:
        """Abort running calls; the next start sweeps what they left."""
        self._stopping.set()
        for state in self._states.values():
            if state.runtime is not None:
                state.runtime.close()

    def changed(self) -> None:
        """Wake the tasks after a change of the catalog; from any thread."""
        loop = self._loop
        if loop is not None and not self._stopping.is_set():
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for state in self._states.values():
            state.wake.set()

    async def settled(self, seconds: float = SETTLED_SECONDS) -> bool:
        """Wait until all connected runtimes have the catalog's current images.

        Returns False after `seconds`.
        """
        wanted, end = self._node.catalog.generation, time.monotonic() + seconds
        self._wake()
        while time.monotonic() < end:
            if not self._behind(wanted):
                return True
            await asyncio.sleep(0.02)
        return False

    def behind(self) -> int:
        """The number of connected runtimes that were not compared with the catalog's newest change.

        Nor with the last change of their own.
        """
        behind = self._behind(self._node.catalog.generation)
        return max(behind, sum(state.has_work for state in self._states.values()))

    def _behind(self, generation: int) -> int:
        connected = [state for state in self._states.values() if state.runtime is not None]
        return sum(state.seen_generation < generation for state in connected)

    def connected(self) -> list[tuple[str, Runtime, OtherAgent | None]]:
        """Returns the connected runtimes, each with the other agent that has claimed it."""
        return [
            (state.socket, state.runtime, state.other)
            for state in self._states.values()
            if state.runtime is not None
        ]

    def away(self) -> list[tuple[str, float | None]]:
        """Returns each runtime's socket, and the seconds since it was lost: None if connected."""
        now = time.monotonic()
        return [
            (state.socket, None if state.away_since is None else now - state.away_since)
            for state in self._states.values()
        ]

    def layers(self, socket: str) -> Mapping[str, int]:
        """Returns the layers unpacked since the connection, by who did: airside, containerd."""
        state = self._states.get(socket)
        runtime = state.runtime if state is not None else None
        return runtime.facts.unpacking.layers if runtime is not None else {}

    def describe(self) -> list[dict[str, Any]]:
        """Returns the runtimes' part of `status`."""
        return [state.describe() for state in self._states.values()]

    # one runtime

    async def _supervise(self, state: _RuntimeState) -> None:
        delay, logged = _FIRST_RETRY_SECONDS, ""
        while not self._stopping.is_set():
            try:
                await self._connect_and_serve(state)
            except StoppedError:
                return
            except AirsideError as exc:
                state.reason = exc.message
                if exc.message != logged and not self._stopping.is_set():
                    log.warning("%s: %s; retrying in %.2g s", state.socket, exc.message, delay)
                    logged = exc.message
            if state.last is not None:
                delay, state.last, logged = _FIRST_RETRY_SECONDS, None, ""
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_RETRY_SECONDS)

    async def _connect_and_serve(self, state: _RuntimeState) -> None:
        """Connect to the runtime and publish to it until it disconnects."""
        runtime = await self._call(self._connect, state.socket)
        if self._stopping.is_set():
            runtime.close()
            return
        state.runtime, state.reason, state.lost = runtime, "", False
        state.away_since = None
        self._node.runtimes.add(state.socket, runtime)
        facts = runtime.facts
        log.info("%s: containerd %s", state.socket, facts.version)
        watcher = threading.Thread(
            target=self._watch, args=(state, runtime), name="runtime-events", daemon=True
        )
        watcher.start()
        try:
            await self._call(forget_wiped, self._node, state.socket, facts.server_id)
            await self._on_connect()
            await self._serve(state, runtime)
        finally:
            self._node.runtimes.remove(state.socket)
            state.runtime, state.other, state.is_busy = None, None, False
            state.away_since = time.monotonic()
            runtime.close()

    async def _serve(self, state: _RuntimeState, runtime: Runtime) -> None:
        everything = True
        while True:
            state.is_busy = True
            state.wake.clear()
            generation = self._node.catalog.generation
            state.pass_at = time.monotonic()
            state.checked_at = state.pass_at if everything else state.checked_at
            state.last = await self._call(
                state.publisher.run,
                runtime,
                stop=self._stopping.is_set,
                everything=everything,
                pods_started=state.pass_at - state.container_at < _POD_SECONDS,
            )
            state.is_busy = False
            self.passes += 1
            state.took_turn(state.last)
            if state.last.other is None:
                self._node.meters.passed(state.socket)
            state.seen_generation = generation
            await self._wait(state, state.last.again_seconds)
            everything = bool(state.other) or self._check_in(state) <= 0
            if state.lost:  # gRPC may have connected again already, to one that restarted
                raise ContainerdError(
                    f"containerd at {state.socket} went away", status="UNAVAILABLE"
                )

    def _check_in(self, state: _RuntimeState) -> float:
        """Returns the seconds until everything is to be checked, whatever else passes are for."""
        return state.checked_at + self._settings.reconcile_seconds - time.monotonic()

    async def _wait(self, state: _RuntimeState, again_seconds: float | None) -> None:
        """Wait for a reason for a pass."""
        if self._node.catalog.generation != state.seen_generation or state.lost:
            return
        if state.has_waiting and state.container_at >= state.pass_at:
            return
        again = math.inf if again_seconds is None else again_seconds
        timeout = max(min(self._check_in(state), again, _LONGEST_PAUSE_SECONDS), 0.0)
        try:
            await asyncio.wait_for(state.wake.wait(), timeout)
        except TimeoutError:
            return
        await self._wait_until_quiet(state)

    async def _wait_until_quiet(self, state: _RuntimeState) -> None:
        """Wait until the burst of changes in the runtime has ended, unless the catalog changed."""
        end = time.monotonic() + _BURST_SECONDS
        while self._node.catalog.generation == state.seen_generation:
            left = min(state.disturbed_at + _QUIET_SECONDS, end) - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.05))

    def _watch(self, state: _RuntimeState, runtime: Runtime) -> None:
        """Wake the task when images change, or containers that an image waits for.

        Runs in its own thread until disconnected.
        """
        loop = self._loop
        assert loop is not None
        with suppress(AirsideError, RuntimeError):
            for change in runtime.changes():
                if change.is_container and not change.has_ended:
                    state.container_at = time.monotonic()
                else:
                    state.disturbed_at = time.monotonic()
                if state.concerns(change):
                    loop.call_soon_threadsafe(state.wake.set)
        if state.runtime is runtime:
            state.lost = True
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(state.wake.set)

    async def _call(self, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
        """Run blocking work in the pool; a cancellation aborts it and waits for its end."""

        def run() -> T:
            return work(*values, **named)

        future = asyncio.get_running_loop().run_in_executor(self._pool, run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.stop()
            with suppress(Exception):
                await future
            raise
