"""A publish while others do things: in one process with the test, on each version of containerd."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airside.containerd import runtime as runtime_module
from airside.containerd.client import Client
from airside.containerd.runtime import ContainerdRuntime, RuntimeOptions
from airside.oci.model import parse_document
from airside.oci.platform import parse_platform
from airside.oci.reference import parse_reference
from airside.ports.publication import NodeContent, Publication, name_labels
from airside.registry.rules.read_through import ReadThrough
from airside.store.local import LocalStore
from support.claims import work_leases
from support.containerd import Containerd, by_turns
from support.images import TestImage, random_image
from support.kubelet import Kubelet
from support.memory import MemoryStore, MemoryView
from support.served import served
from support.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

SEEDS = itertools.count()
STEPS = [f"publish.after_{step}" for step in ("lease", "content", "unpack", "name")]


def never() -> bool:
    return False


@dataclass
class Intents:
    """In memory; what is left is swept by the next connection."""

    targets: dict[str, str] = field(default_factory=dict)

    def record(self, targets: Mapping[str, str]) -> None:
        self.targets.update(targets)

    def clear(self, targets: Any) -> None:
        for target in list(targets):
            self.targets.pop(target, None)

    def left(self) -> list[tuple[str, str]]:
        return list(self.targets.items())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    made = LocalStore(tmp_path / "oci", tmp_path / "ingest")
    made.prepare()
    return made


def connected(
    containerd: Containerd, store: LocalStore, intents: Intents | None = None
) -> ContainerdRuntime:
    return ContainerdRuntime.connect(
        str(containerd.socket),
        "k8s.io",
        store,
        intents or Intents(),
        RuntimeOptions(
            identity="airside-race",
            node=parse_platform("linux/amd64"),
            snapshotter=str(containerd.options.snapshotter),
        ),
    )


@pytest.fixture
def runtime(shared_containerd: Containerd, store: LocalStore) -> Iterator[ContainerdRuntime]:
    made = connected(shared_containerd, store)
    yield made
    made.close()


def prepared(store: LocalStore, **more: Any) -> tuple[TestImage, str, Publication]:
    """An image of its own, in the store, and how it is to be published."""
    number = next(SEEDS)
    image, name = random_image(f"race/{number}", **more), f"docker.io/race/image{number}:1"
    store.commit([store.put(blob.raw) for blob in image.blobs])
    manifest = parse_document(image.manifest.raw, image.manifest.media_type, name)
    repository = parse_reference(name).repository
    labels = name_labels(pinned=True, archives=("/images/a.tar",))
    names = dict.fromkeys((name, f"{repository}@{image.digest}"), labels)
    return image, name, Publication(NodeContent((manifest,)), names, (repository,))


def lists(containerd: Containerd) -> dict[str, Any]:
    """Leases, ingests, snapshots, contents and names, after a collection."""
    containerd.collect()
    snapshotter = str(containerd.options.snapshotter)
    with Client.open(str(containerd.socket)) as client:
        return {
            "leases": work_leases(client),
            "writes": client.content.ingests(),
            "active": client.snapshots.list_active(snapshotter),
            "snapshots": set(client.snapshots.list_committed(snapshotter)),
            "content": {blob.digest: dict(blob.labels) for blob in client.content.list()},
            "images": {i.name: str(i.target.digest) for i in client.images.list()},
        }


@pytest.mark.parametrize(
    ("containerd_version", "step"),
    by_turns((step,) for step in STEPS),
    indirect=["containerd_version"],
)
def test_a_publish_whose_lease_goes_begins_again(
    shared_containerd: Containerd,
    store: LocalStore,
    runtime: ContainerdRuntime,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone: list[str] = []

    def end_leases(passed: str) -> None:
        if passed == step and not gone:
            gone.extend(work_leases(runtime.client))
            for lease in gone:
                runtime.client.leases.delete(lease, sync=True)

    image, name, wanted = prepared(store)
    monkeypatch.setattr(runtime_module, "fault", end_leases)
    assert runtime.publish(wanted, stop=never).unpacked
    assert len(gone) == 1
    with Kubelet(shared_containerd) as kubelet:
        kubelet.wait_image(name)
        found = lists(shared_containerd)
    assert (found["leases"], found["writes"], found["active"]) == ([], [], [])
    assert {str(blob.digest) for blob in image.blobs} <= set(found["content"])
    assert {n: found["images"][n] for n in wanted.names} == dict.fromkeys(
        wanted.names, str(image.digest)
    )
    check = shared_containerd.did("images", "check", f"name=={name}")
    assert "incomplete" not in check
    assert check.split()[-1] == "true"


def mirror(containerd: Containerd, address: str) -> None:
    file = containerd.hosts / "docker.io/hosts.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'server = "http://{address}"\n[host."http://{address}"]\n')


def test_cri_that_pulls_the_same_image_meanwhile(
    shared_containerd: Containerd, store: LocalStore, runtime: ContainerdRuntime
) -> None:
    """Both end well, whoever begins, and what is there is what a publish alone makes."""
    image, name, wanted = prepared(store, layers=5, layer_bytes=2_000_000, compression="gzip")
    view, blobs = MemoryView(), MemoryStore()
    for blob in image.blobs:
        view.put_blob(parse_reference(name).repository, blobs.add(blob.raw))
    view.put(parse_reference(name).repository, wanted.content.manifest, "1")
    with (
        Kubelet(shared_containerd) as kubelet,
        served(view, blobs, ReadThrough()) as registry,
        ThreadPoolExecutor(2) as pool,
    ):
        mirror(shared_containerd, registry.address)

        def pull() -> object:
            return kubelet.cri.pull(name, seconds=LIMIT_SECONDS)

        def publish() -> object:
            return runtime.publish(wanted, stop=never)

        def found() -> dict[str, Any]:
            kubelet.wait_image(name)
            state = lists(shared_containerd)
            kubelet.cri.remove_image(name)
            shared_containerd.collect()
            left = runtime.blobs() & {str(blob.digest) for blob in image.blobs}
            assert not left
            return state

        publish()
        alone = found()
        for first, second in ((pull, publish), (publish, pull)):
            for delay_seconds in (0.0, 0.02, 0.06, 0.15):
                begun = pool.submit(first)
                time.sleep(delay_seconds)
                second()
                begun.result(LIMIT_SECONDS)
                assert found() == alone, (first.__name__, delay_seconds)


def test_an_image_goes_although_cri_has_not_seen_yet_that_its_name_moved(
    shared_containerd: Containerd,
    store: LocalStore,
    runtime: ContainerdRuntime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, name, wanted = prepared(store)
    second, _, other = prepared(store)
    runtime.publish(wanted, stop=never)
    with Kubelet(shared_containerd) as kubelet:
        kubelet.wait_image(name)
        monkeypatch.setattr(runtime.cri, "images", partial(list, kubelet.cri.images()))
    moved = Publication(other.content, {name: wanted.names[name]}, wanted.repositories)
    runtime.publish(moved, stop=never)
    stale = set(wanted.names) - {name}
    assert runtime.withdraw(stale, [str(first.config.digest)]) == frozenset()
    images = runtime.images()
    assert str(first.config.digest) not in images
    assert images[name].target == second.digest


def test_nothing_is_unlinked_where_containerd_collects(
    shared_containerd: Containerd, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection that meets a file gone in between leaves its garbage; so it deletes ours."""
    unlinked: list[str] = []

    def recorded(unlink: Callable[..., None]) -> Callable[..., None]:
        def record(path: Any, *args: Any, **named: Any) -> None:
            unlinked.append(os.fspath(path))
            unlink(path, *args, **named)

        return record

    blobs = shared_containerd.content_root / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    orphan, intents = prepared(store)[0].config, Intents()
    target = blobs / orphan.digest.hex
    target.hardlink_to(store.path(orphan.digest))
    intents.record({str(target): str(orphan.digest)})
    monkeypatch.setattr(Path, "unlink", recorded(Path.unlink))
    monkeypatch.setattr(os, "unlink", recorded(os.unlink))
    with connected(shared_containerd, store, intents).client as client:
        assert intents.left() == []
        shared_containerd.collect()
        assert not [path for path in unlinked if path.startswith(str(blobs))]
        held = {blob.digest.partition(":")[2] for blob in client.content.list()}
    assert not target.exists()
    assert {path.name for path in blobs.iterdir()} == held
