"""A node in this process that is connected to a real containerd and unpacks early.

As a program, `python -m support.early_node SOCKET NAMESPACE DATA ARCHIVE…` imports archives and
publishes them once, for a fault to kill.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airside.agent.node import Node
from airside.agent.runtime_connections import RuntimeConnection, connected_runtimes
from airside.catalog.runtime_records import RuntimePendingSync
from airside.containerd import early_unpacks
from airside.containerd.runtime import ContainerdRuntime
from airside.importer.importer import Outcome
from support.claims import work_leases
from support.nodes import import_now, node_at
from support.waiting import wait_until


def never() -> bool:
    return False


class EarlyNode:
    """A node that has made its first pass: it has claimed the runtime."""

    def __init__(self, node: Node, connection: RuntimeConnection) -> None:
        assert isinstance(connection.runtime, ContainerdRuntime), connection.reason
        self.node, self.connection, self.runtime = node, connection, connection.runtime
        self.client = self.runtime.client
        self.publish()

    def publish(self) -> None:
        """Make one pass of the publisher."""
        self.connection.publish(stop=never)

    def take(self, path: Path) -> Outcome:
        return import_now(self.node, path)

    def take_slowly(self, path: Path) -> Outcome:
        """Import an archive; before the end of its last member a layer must be unpacked."""

        def progress(done: int, total: int) -> None:
            if done == total:
                wait_until(lambda: self.snapshots)

        return self.node.imports.import_file(path, stop=never, progress=progress)

    @property
    def snapshots(self) -> set[str]:
        return set(self.client.snapshots.list_committed(self.runtime.facts.snapshotter))

    @property
    def prepared(self) -> set[str]:
        return set(self.client.snapshots.list_active(self.runtime.facts.snapshotter))

    @property
    def leases(self) -> list[str]:
        return work_leases(self.client)

    @property
    def names(self) -> set[str]:
        return {image.name for image in self.client.images.list()}

    @property
    def record(self) -> dict[str, str]:
        """The chains that are recorded as not synced."""
        return RuntimePendingSync(self.node.catalog, self.connection.socket).load()

    def held(self) -> tuple[Any, ...]:
        """What the namespace holds, to be compared with another's."""
        contents = {
            blob.digest: {key: sorted(text.split(",")) for key, text in blob.labels.items()}
            for blob in self.client.content.list()
        }
        return self.names, self.snapshots, self.prepared, contents, self.leases, self.record


@contextmanager
def early_node(data: Path, socket: object, namespace: str, **changes: Any) -> Iterator[EarlyNode]:
    settings = {"runtime": (str(socket),), "namespace": namespace, "platform": "linux/amd64"}
    with (
        patch.object(early_unpacks, "is_busy", lambda: False),
        node_at(data, **{**settings, **changes}) as node,
        connected_runtimes(node) as [connection],
    ):
        yield EarlyNode(node, connection)


def main() -> None:
    socket, namespace, data, *archives = sys.argv[1:]
    with early_node(Path(data), socket, namespace) as node:
        for archive in archives:
            node.take(Path(archive))
        node.publish()


if __name__ == "__main__":
    main()
