"""Connections to this host's container runtimes, for commands without an agent. Blocking.

Each runtime is connected once; a failure is logged, and the others are used. A publish is one pass
of the publisher.

The agent uses `connect` and `forget_wiped` too.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from airside.agent.node import Node
from airside.archive.stop import Stop
from airside.catalog.runtime_records import RuntimeIntents, RuntimePendingSync
from airside.containerd.desired_state import naming_of, node_of
from airside.containerd.layer_tars import LayerTars
from airside.containerd.publisher import Publisher
from airside.containerd.sockets import find_sockets
from airside.core.errors import AirsideError, ConfigError, StoppedError
from airside.core.priority import BY_NAME
from airside.core.settings import Settings
from airside.ports.content import OtherAgent, Runtime
from airside.ports.runtime_set import RuntimeSet
from airside.store.data_directory import boot_id

log = logging.getLogger("airside.publish")


def check_names(settings: Settings) -> None:
    """Check the rules of the setting `rewrite`. Raises ConfigError."""
    try:
        naming_of(settings)
    except ValueError as exc:
        raise ConfigError(f"rewrite: {exc} must be FROM=TO, two prefixes of names") from exc


def connect(node: Node, socket: str) -> Runtime:
    """Connect to a containerd. Raises ContainerdError. Only here grpc is loaded."""
    from airside.containerd.agent_process import AgentProcess  # noqa: PLC0415
    from airside.containerd.pending_sync import PendingSync  # noqa: PLC0415
    from airside.containerd.runtime import ContainerdRuntime, RuntimeOptions  # noqa: PLC0415

    settings = node.settings
    return ContainerdRuntime.connect(
        socket,
        settings.namespace,
        node.store,
        RuntimeIntents(node.catalog, socket),
        RuntimeOptions(
            identity=node.identity,
            node=node_of(settings),
            snapshotter=settings.snapshotter,
            threads=os.cpu_count() or 1,
            data=os.fsencode(settings.data).decode(errors="replace"),
            process=AgentProcess.own(boot_id()),
            limits=settings.limits,
            space=node.store.space,
            pull_seconds=settings.pull_seconds,
            early=settings.unpack == "node-platform",
            priority=BY_NAME[settings.import_priority],
            temporary=settings.data if settings.unpack_by == "auto" else None,
        ),
        open_tar=LayerTars(node.store.open, settings.limits, node.windows),
        pending_sync=PendingSync(RuntimePendingSync(node.catalog, socket), boot_id()),
    )


def claimed_by(other: OtherAgent | None) -> str:
    """Returns why nothing is published to a runtime that another agent has claimed."""
    return f"another agent publishes to it ({other})" if other is not None else ""


def forget_wiped(node: Node, socket: str, server_id: str) -> None:
    """Forget what was published to a runtime that was wiped since."""
    key = f"runtime:{socket}"
    if node.catalog.meta(key) != server_id:
        node.catalog.publications.forget_runtime(socket)
        node.catalog.set_meta({key: server_id})


@dataclass(slots=True)
class RuntimeConnection:
    """A runtime of the settings: its connection, or the reason for none."""

    connected: RuntimeSet
    socket: str
    publisher: Publisher
    runtime: Runtime | None = None
    reason: str = ""
    is_first: bool = True

    def lost(self, exc: AirsideError) -> None:
        log.warning("%s: %s", self.socket, exc.message)
        self.reason = exc.message
        self.close()

    def close(self) -> None:
        """Disconnect, if it is connected."""
        self.connected.remove(self.socket)
        if self.runtime is not None:
            self.runtime.close()
            self.runtime = None

    def publish(self, *, stop: Stop) -> None:
        """Publish the catalog's images to the runtime. Raises StoppedError."""
        if self.runtime is None:
            return
        try:
            done = self.publisher.run(self.runtime, stop=stop, everything=self.is_first)
            self.reason = claimed_by(done.other)
        except StoppedError:
            raise
        except AirsideError as exc:
            self.lost(exc)
        self.is_first = False

    def describe(self) -> dict[str, object]:
        connected = self.runtime is not None
        return {"socket": self.socket, "connected": connected, "reason": self.reason}


@contextmanager
def connected_runtimes(node: Node) -> Iterator[list[RuntimeConnection]]:
    """Connect to the runtimes of the settings for as long as the context lasts; lists use them."""
    found = [_attach(node, socket) for socket in find_sockets(node.settings.runtime)]
    try:
        yield found
    finally:
        for each in found:
            each.close()


def _attach(node: Node, socket: str) -> RuntimeConnection:
    publisher = Publisher(
        socket, node.catalog, node.store, node.settings, node.clock, node.document_memory
    )
    each = RuntimeConnection(node.runtimes, socket, publisher)
    try:
        each.runtime = connect(node, socket)
        node.runtimes.add(socket, each.runtime)
        forget_wiped(node, socket, each.runtime.facts.server_id)
    except AirsideError as exc:
        each.lost(exc)
    return each
