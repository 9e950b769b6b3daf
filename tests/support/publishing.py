"""A node, a runtime in memory and a publisher: what the publisher makes of the catalog."""

from pathlib import Path
from typing import Any

from airside.agent.node import Node
from airside.archive.directory import stat_key
from airside.catalog.publications import PublicationRow
from airside.containerd.publish_pass import Pass
from airside.containerd.publisher import Publisher
from airside.importer.importer import Job
from support.images import docker_archive, random_image
from support.memory_runtime import MemoryRuntime
from support.nodes import settings_at

NAME = "docker.io/library/app:1"
SOCKET = "/run/test.sock"


class Bench:
    """A node, a runtime, and time that the test tells."""

    def __init__(self, node: Node, directory: Path, **changes: Any) -> None:
        self.node, self.directory = node, directory
        self.runtime = MemoryRuntime()
        self.now = 1000.0
        settings = settings_at(directory / "data", platform="linux/amd64", **changes)
        self.publisher = Publisher(
            SOCKET,
            node.catalog,
            node.store,
            settings,
            node.clock,
            node.document_memory,
            lambda: self.now,
            node.meters,
        )

    def run(self, *, everything: bool = False, pods_started: bool = False) -> Pass:
        return self.publisher.run(
            self.runtime, stop=lambda: False, everything=everything, pods_started=pods_started
        )

    def drop(self, seed: object, name: str = NAME, **image: Any) -> None:
        """Import an archive in place of an earlier one of the name."""
        path = self.directory / f"{name.replace('/', '_')}.tar"
        path.unlink(missing_ok=True)
        docker_archive(path, {name: random_image(seed, **image)})
        self.settle(path)

    def settle(self, path: Path) -> None:
        """As the watcher would."""
        key = stat_key(path)
        [source] = self.node.catalog.source_states.settle(
            [(str(path), str(key), key.size_bytes)], self.node.clock()
        ).values()
        job = Job(source, path)
        outcome = self.node.importer.run(job, stop=lambda: False, progress=lambda _done, _all: None)
        assert outcome.state == "imported", outcome

    def remove(self, name: str = NAME, policy: str = "unpin") -> None:
        path = self.directory / f"{name.replace('/', '_')}.tar"
        self.node.remove({str(path): policy})

    def row(self, name: str = NAME) -> PublicationRow:
        return {r.reference: r for r in self.node.catalog.published(SOCKET)}[name]

    def rmi(self) -> None:
        self.runtime.named.clear()
        self.runtime.ids.clear()
