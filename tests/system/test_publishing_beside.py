"""The agent's runtimes while containerd dies in a publish, and beside K3s's importer."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airside.agent.node import Node
from airside.agent.runtime_connections import connect
from airside.agent.runtime_supervisor import RuntimeSupervisor
from airside.archive.directory import stat_key
from airside.catalog.publications import PublicationRow
from airside.containerd import adopt
from airside.containerd import runtime as runtime_module
from airside.containerd.client import Client
from airside.containerd.services.content import Content
from airside.containerd.services.images import ImageRecord, Images
from airside.core import failpoints as faults
from airside.core.errors import ConflictError
from airside.importer.importer import Job
from support.claims import work_leases
from support.containerd import Containerd
from support.images import docker_archive, random_image
from support.nodes import node_at
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare", "mount")]

NAME = "docker.io/library/app:1"
EXTRA = "registry.internal:5000"
STEPS = [
    p
    for p in faults.PUBLISHING
    if p.startswith("publish.") and p not in {"publish.after_send", "publish.after_withdraw"}
]
"""A blob is sent only where it can't be linked; steps of unpacking have a test of their own."""
K3S_LABELS = {"io.cattle.k3s.pinned": "pinned", "io.cri-containerd.pinned": "pinned"}


@dataclass
class Kept:
    """A node whose runtimes are kept right in a thread, as the agent keeps them."""

    node: Node
    containerd: Containerd
    runtimes: RuntimeSupervisor
    archives: Path

    def drop(self, seed: object, name: str = NAME) -> None:
        path = self.archives / f"{seed}.tar"
        docker_archive(path, {name: random_image(seed)})
        key = stat_key(path)  # as the watcher has it
        [source] = self.node.catalog.source_states.settle(
            [(str(path), str(key), key.size_bytes)], self.node.clock()
        ).values()
        done = self.node.importer.run(
            Job(source, path), stop=lambda: False, progress=lambda _done, _all: None
        )
        assert done.state == "imported"

    def row(self, name: str = NAME) -> PublicationRow | None:
        rows = self.node.catalog.published(str(self.containerd.socket))
        return next((row for row in rows if row.reference == name), None)

    def wait(self, holds: Callable[[], Any], what: str) -> None:
        def holds_now() -> bool:
            with suppress(Exception):  # containerd may be away at this moment
                return bool(holds())
            return False

        wait_until(holds_now, lambda: (what, self.runtimes.describe(), self.row()))

    def is_settled(self) -> bool:
        row = self.row()
        return row is not None and row.state == "published" and bool(self.node.runtimes.contents())


async def nothing_to_do() -> None:
    """Awaited when a runtime is connected."""


@contextmanager
def kept(containerd: Containerd, directory: Path, **settings: Any) -> Iterator[Kept]:
    socket = str(containerd.socket)
    snapshotter = str(containerd.options.snapshotter)
    changes = {"platform": "linux/amd64", "snapshotter": snapshotter, **settings}
    with node_at(directory / "data", **changes) as node:
        runtimes = RuntimeSupervisor(
            node, node.settings, lambda: [socket], partial(connect, node), nothing_to_do
        )
        ended = threading.Event()
        ready: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

        async def main() -> None:
            task = asyncio.create_task(runtimes.run())
            ready.append((asyncio.get_running_loop(), task))
            with suppress(asyncio.CancelledError):
                await task

        def run() -> None:
            asyncio.run(main())
            ended.set()

        thread = threading.Thread(target=run, name="kept")
        thread.start()
        made = Kept(node, containerd, runtimes, directory)
        try:
            made.wait(node.runtimes.contents, "connected")
            yield made
        finally:
            runtimes.stop()
            loop, task = ready[0]
            loop.call_soon_threadsafe(task.cancel)
            thread.join(LIMIT_SECONDS)
            assert ended.is_set()


def state_of(containerd: Containerd) -> dict[str, Any]:
    """Leases, ingests, snapshots, contents and names with their labels, after a collection."""
    containerd.collect()
    snapshotter = str(containerd.options.snapshotter)
    with Client.open(str(containerd.socket)) as client:
        content = {blob.digest: dict(blob.labels) for blob in client.content.list()}
        files = {f"sha256:{p.name}" for p in (containerd.content_root / "blobs/sha256").iterdir()}
        assert files == set(content)
        return {
            "leases": work_leases(client),
            "writes": client.content.ingests(),
            "active": client.snapshots.list_active(snapshotter),
            "snapshots": set(client.snapshots.list_committed(snapshotter)),
            "content": content,
            "images": {
                i.name: (str(i.target.digest), dict(i.labels)) for i in client.images.list()
            },
        }


def withdrawn(kept: Kept) -> None:
    """Take the image back, so that the next publish begins with nothing."""
    for path in list(kept.archives.glob("*.tar")):
        kept.node.remove({str(path): "delete"})
    kept.wait(lambda: not names_in(kept.containerd), "withdrawn")
    kept.containerd.collect()


def names_in(containerd: Containerd) -> set[str]:
    with Client.open(str(containerd.socket)) as client:
        return {image.name for image in client.images.list()}


def test_containerd_is_killed_at_each_step_of_a_publish(
    newest_containerd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent lives on, containerd is started again: it ends as an undisturbed publish does."""
    at = ""
    died: list[str] = []

    def kill(passed: str) -> None:
        if passed == at and not died:
            died.append(passed)
            made.kill()

    with Containerd(newest_containerd, tmp_path / "c") as made, kept(made, tmp_path) as node:
        monkeypatch.setattr(adopt, "fault", kill)
        monkeypatch.setattr(runtime_module, "fault", kill)
        states = {}
        for at in ("", *STEPS):
            died.clear()
            node.drop("app")
            if at:
                node.wait(lambda: died and not made.is_running, f"killed {at}")
                made.start()
            node.wait(node.is_settled, f"published after {at}")
            node.wait(lambda: any(n.startswith("sha256:") for n in names_in(made)), "CRI knows it")
            states[at] = state_of(made)
            assert states[at] == states[""], at
            withdrawn(node)
        assert states[""]["leases"] == []


WRITES = (
    (Images, ("create", "update", "delete")),
    (Content, ("label", "adopt", "send")),
)
ROUNDS = 6


def import_as_k3s(client: Client, tag: ImageRecord, others: list[ImageRecord]) -> None:
    """What its importer does with an image: labels as a whole, other names deleted and made."""
    client.images.update(tag, "target", "labels")
    for record in others:
        client.images.delete(record.name)
        try:
            client.images.create(record)
        except ConflictError:
            client.images.delete(record.name)
            client.images.create(record)


def test_k3s_that_imports_the_same_image_beside_us(
    newest_containerd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put right once it is quiet: no write answers another for ever."""
    ours: Counter[str] = Counter()

    def counted(service: type[Images | Content], name: str) -> Callable[..., Any]:
        call = getattr(service, name)

        def count(self: Images | Content, *args: Any, **named: Any) -> Any:
            if self not in (theirs.images, theirs.content):
                ours[f"{service.__name__}.{name}"] += 1
            return call(self, *args, **named)

        return count

    with (
        Containerd(newest_containerd, tmp_path / "c") as made,
        kept(made, tmp_path, extra_registries=(EXTRA,)) as node,
        Client.open(str(made.socket)) as theirs,
    ):
        node.drop("app")
        node.wait(node.is_settled, "published")
        row = node.row()
        assert row is not None
        names = row.detail["names"]
        assert isinstance(names, list)
        assert len(names) == 4
        [found] = theirs.images.list(f"name=={NAME}")
        tag, *others = (ImageRecord(name, found.target, K3S_LABELS) for name in names)
        for service, writes in WRITES:
            for write in writes:
                monkeypatch.setattr(service, write, counted(service, write))
        for _ in range(ROUNDS):
            import_as_k3s(theirs, tag, others)
            time.sleep(0.2)

        def is_right() -> bool:
            there = {image.name: image for image in theirs.images.list()}
            both = {*K3S_LABELS.items(), ("io.airside.archives", str(tmp_path / "app.tar"))}
            return all(both <= set(there[name].labels.items()) for name in names)

        node.wait(is_right, "put right")
        time.sleep(1.0)  # longer than what is waited after a change of others
        before = Counter(ours)
        print(f"{ROUNDS} imports of K3s were answered by {dict(ours)}")
        assert sum(ours.values()) <= ROUNDS * (len(names) + 1)
        time.sleep(1.0)
        assert ours == before
        assert is_right()
        assert node.is_settled()
        made.collect()
        assert "incomplete" not in made.did("images", "check")
        with_k3s_only = ImageRecord("docker.io/library/theirs:1", found.target, K3S_LABELS)
        theirs.images.create(with_k3s_only)
        node.wait(lambda: with_k3s_only.name in names_in(made), "theirs is there")
        node.drop("second", "docker.io/library/second:1")
        node.wait(lambda: node.row("docker.io/library/second:1") is not None, "a later pass")
        [left] = theirs.images.list(f"name=={with_k3s_only.name}")
        assert left.labels == K3S_LABELS | {"io.cri-containerd.image": "managed"}
