"""Every runtime that images are published to: the one in memory, and a real containerd."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import pytest

from airside.archive.sample import sample_image
from airside.containerd.runtime import ContainerdRuntime, RuntimeOptions
from airside.core.errors import ContainerdError, StoppedError, StoreError, VerificationError
from airside.oci.model import parse_document
from airside.oci.platform import node_platform
from airside.oci.reference import Repository
from airside.ports.content import Runtime
from airside.ports.publication import (
    ARCHIVES_LABEL,
    PINNED_LABEL,
    NodeContent,
    Publication,
    name_labels,
)
from airside.store.local import LocalStore
from support.containerd import Containerd
from support.images import (
    TestImage,
    TestIndex,
    image_of,
    layer_of,
    random_image,
    random_index,
    random_layer,
)
from support.kubelet import Kubelet, import_pause
from support.memory_runtime import MemoryRuntime
from support.waiting import LIMIT_SECONDS

NODE = node_platform()
FOREIGN = "linux/s390x"
SEEDS = itertools.count()
OTHERS = "example.org/theirs"


def never() -> bool:
    return False


class Host(Protocol):
    """A runtime, its store, and what others do there."""

    runtime: Runtime
    store: LocalStore

    def label(self, name: str, key: str, value: str) -> None:
        """Somebody else sets a label."""

    def known(self, name: str, *, pinned: bool) -> None:
        """Wait until CRI knows an image by this name."""

    def use(self, name: str) -> Callable[[], None]:
        """Make a container of an image; gives what removes it."""

    def collect(self) -> None: ...

    def go_away(self) -> None: ...


class InMemory:
    def __init__(self, store: LocalStore) -> None:
        self.store, self.twin = store, MemoryRuntime(store)
        self.runtime: Runtime = self.twin

    def label(self, name: str, key: str, value: str) -> None:
        found = self.twin.named[name]
        self.twin.named[name] = replace(found, labels={**found.labels, key: value})

    def known(self, name: str, *, pinned: bool) -> None:
        target = self.twin.named[name].target
        [found] = [i for i in self.twin.ids.values() if i.target == target]
        assert found.pinned == pinned

    def use(self, name: str) -> Callable[[], None]:
        image_id = str(self.twin.contents[self.twin.named[name].target].config)
        self.twin.create_container(image_id)
        return lambda: self.twin.used.discard(image_id)

    def collect(self) -> None:
        self.twin.collect()

    def go_away(self) -> None:
        self.twin.away = True


class NoIntents:
    def record(self, targets: Mapping[str, str]) -> None: ...
    def clear(self, targets: object) -> None: ...
    def left(self) -> list[tuple[str, str]]:
        return []


class InContainerd:
    def __init__(self, store: LocalStore, containerd: Containerd, kubelet: Kubelet) -> None:
        self.store, self.containerd, self.kubelet = store, containerd, kubelet
        self.runtime: Runtime = ContainerdRuntime.connect(
            str(containerd.socket),
            "k8s.io",
            store,
            NoIntents(),
            RuntimeOptions(
                identity="airside-contract",
                node=NODE,
                snapshotter=str(containerd.options.snapshotter),
            ),
        )

    def label(self, name: str, key: str, value: str) -> None:
        self.containerd.did("images", "label", name, f"{key}={value}")

    def known(self, name: str, *, pinned: bool) -> None:
        self.kubelet.wait_image(name, lambda image: image.pinned == pinned)

    def use(self, name: str) -> Callable[[], None]:
        pod = self.kubelet.start(name)
        self.kubelet.wait(pod)
        return lambda: self.kubelet.remove(pod)

    def collect(self) -> None:
        self.containerd.collect()

    def go_away(self) -> None:
        self.containerd.kill()


@pytest.fixture(scope="module")
def node(
    newest_containerd: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Containerd, Kubelet]]:
    directory = tmp_path_factory.mktemp("containerd")
    with Containerd(newest_containerd, directory) as made, Kubelet(made) as kubelet:
        import_pause(made)
        yield made, kubelet


NEEDS = pytest.mark.needs("runc", "unshare", "mount")


@pytest.fixture(params=["memory", pytest.param("containerd", marks=NEEDS)])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("store")
    store = LocalStore(directory / "oci", directory / "ingest")
    store.prepare()
    made: Host
    if request.param == "memory":
        made = InMemory(store)
    else:
        containerd, kubelet = request.getfixturevalue("node")
        if not containerd.is_running:
            containerd.start()
            kubelet.wait_ready()
        made = InContainerd(store, containerd, kubelet)
    yield made
    made.runtime.close()


def put(host: Host, image: TestImage | TestIndex) -> None:
    host.store.commit([host.store.put(blob.raw) for blob in image.blobs])


def publication(
    image: TestImage | TestIndex,
    *names: str,
    pinned: bool = True,
    archives: tuple[str, ...] = ("/images/a.tar",),
    unpack: bool = True,
) -> Publication:
    documents = [image.manifest] if isinstance(image, TestImage) else [image.index]
    if isinstance(image, TestIndex):
        documents.append(image.image(str(NODE)).manifest)
    chain = tuple(parse_document(d.raw, d.media_type, str(d.digest)) for d in documents)
    labels = name_labels(pinned=pinned, archives=archives)
    repository = Repository("docker.io", names[0].partition("/")[2].partition(":")[0])
    return Publication(
        NodeContent(chain), dict.fromkeys(names, labels), (repository,), unpack=unpack
    )


def runnable(host: Host) -> tuple[TestImage, str]:
    """An image of the sample's program, that nobody had before."""
    number = next(SEEDS)
    [layer] = sample_image(NODE).layers
    with layer.blob.open() as tar:
        only = layer_of(tar.read())
    config = {"config": {"Cmd": ["/hello"]}, "number": number}
    image = image_of([only], platform=str(NODE), config=config)
    put(host, image)
    return image, f"docker.io/contract/image{number}:1"


def fresh(host: Host, **more: object) -> tuple[TestImage, str]:
    """An image that no other test has, put into the store, and a name for it."""
    number = next(SEEDS)
    image = random_image(f"contract/{number}", platform=str(NODE), **more)  # type: ignore[arg-type]
    put(host, image)
    return image, f"docker.io/contract/image{number}:1"


def test_its_facts_say_what_it_is(host: Host) -> None:
    facts = host.runtime.facts
    assert facts.version
    assert facts.server_id
    assert facts.snapshotter
    assert facts.unpacks
    assert not facts.why_streamed


def test_an_image_is_there_whole_under_all_its_names(host: Host) -> None:
    image, name = fresh(host)
    other = f"{name.rpartition(':')[0]}@{image.digest}"
    wanted = publication(image, name, other)
    assert host.runtime.manifest_of(name) is None
    done = host.runtime.publish(wanted, stop=never)
    assert done.ways == {"link": len(image.blobs)}
    assert done.unpacked
    images = host.runtime.images()
    for each in (name, other):
        assert images[each].has(image.digest, wanted.names[each])
        assert images[each].is_of_airside
        assert host.runtime.manifest_of(each) == image.digest
    assert {str(blob.digest) for blob in image.blobs} <= host.runtime.blobs()
    host.known(name, pinned=True)
    assert not host.runtime.images()[str(image.config.digest)].is_of_airside


def test_a_second_publish_finds_everything(host: Host) -> None:
    image, name = fresh(host)
    wanted = publication(image, name)
    host.runtime.publish(wanted, stop=never)
    host.known(name, pinned=True)
    before = host.runtime.images(), host.runtime.blobs()
    again = host.runtime.publish(wanted, stop=never)
    assert again.ways == {"held": len(image.blobs)}
    assert again.unpacked
    assert (host.runtime.images(), host.runtime.blobs()) == before


def test_it_is_unpacked_when_asked_and_then_stays_so(host: Host) -> None:
    image, name = fresh(host)
    for unpack, unpacked in ((False, False), (True, True), (False, True)):
        done = host.runtime.publish(publication(image, name, unpack=unpack), stop=never)
        assert done.unpacked == unpacked


def test_a_shared_layer_is_taken_once(host: Host) -> None:
    base = random_layer(f"base/{next(SEEDS)}")
    for number in range(2):
        image, name = fresh(host, base=[base])
        done = host.runtime.publish(publication(image, name), stop=never)
        assert done.ways.get("held", 0) == number


def test_an_index_stands_for_the_nodes_manifest(host: Host) -> None:
    number = next(SEEDS)
    index, name = (
        random_index(f"contract/{number}", (str(NODE), FOREIGN)),
        f"docker.io/contract/index{number}:1",
    )
    put(host, index)
    host.runtime.publish(publication(index, name), stop=never)
    own, other = index.image(str(NODE)), index.image(FOREIGN)
    assert host.runtime.images()[name].target == index.digest
    assert host.runtime.manifest_of(name) == own.digest
    assert {str(blob.digest) for blob in (index.index, *own.blobs)} <= host.runtime.blobs()
    assert not {str(blob.digest) for blob in other.blobs} & host.runtime.blobs()


def test_a_name_moves_and_labels_of_others_stay(host: Host) -> None:
    first, name = fresh(host)
    second, _ = fresh(host)
    host.runtime.publish(publication(first, name), stop=never)
    host.label(name, OTHERS, "1")
    wanted = publication(second, name, pinned=False, archives=("/images/b.tar",))
    host.runtime.publish(wanted, stop=never)
    found = host.runtime.images()[name]
    assert found.target == second.digest
    assert found.labels[ARCHIVES_LABEL] == "/images/b.tar"
    assert found.labels[OTHERS] == "1"
    assert not found.pinned


def test_labels_are_set_on_names_that_are_there(host: Host) -> None:
    image, name = fresh(host)
    host.runtime.publish(publication(image, name), stop=never)
    host.known(name, pinned=True)
    host.label(name, OTHERS, "1")
    labels = name_labels(pinned=False, archives=("/images/c.tar",))
    absent = f"{name}-absent"
    host.runtime.relabel(dict.fromkeys((name, absent), labels), str(image.config.digest))
    images = host.runtime.images()
    assert images[name].has(image.digest, labels)
    assert images[name].labels[OTHERS] == "1"
    assert PINNED_LABEL not in images[name].labels
    assert absent not in images
    host.known(name, pinned=False)
    labels = name_labels(pinned=True, archives=())
    host.runtime.relabel({name: labels}, str(image.config.digest))
    host.known(name, pinned=True)
    found = host.runtime.images()[name]
    assert found.has(image.digest, labels)
    assert found.is_of_airside


def test_a_withdrawn_image_is_gone_and_its_blobs_too(host: Host) -> None:
    image, name = fresh(host)
    host.runtime.publish(publication(image, name), stop=never)
    host.known(name, pinned=True)
    assert str(image.config.digest) in host.runtime.images()
    gone = host.runtime.withdraw([name, f"{name}-absent"], [str(image.config.digest)])
    assert gone == frozenset()
    host.collect()
    assert not {name, str(image.config.digest)} & set(host.runtime.images())
    assert not {str(blob.digest) for blob in image.blobs} & host.runtime.blobs()
    assert host.runtime.manifest_of(name) is None


def test_an_image_with_another_name_stays(host: Host) -> None:
    image, name = fresh(host)
    other = f"{name}-other"
    host.runtime.publish(publication(image, name, other), stop=never)
    host.known(other, pinned=True)
    assert host.runtime.withdraw([name], [str(image.config.digest)]) == frozenset()
    host.collect()
    assert {other, str(image.config.digest)} <= set(host.runtime.images())
    assert {str(blob.digest) for blob in image.blobs} <= host.runtime.blobs()


def test_an_image_in_use_is_told_and_goes_later(host: Host) -> None:
    image, name = runnable(host)
    host.runtime.publish(publication(image, name), stop=never)
    host.known(name, pinned=True)
    image_id = str(image.config.digest)
    end = host.use(name)
    assert host.runtime.withdraw([name], [image_id]) == {image_id}
    assert image_id in host.runtime.images()
    end()
    assert host.runtime.withdraw([], [image_id]) == frozenset()
    assert image_id not in host.runtime.images()


def test_a_layer_that_is_another_is_refused_and_gets_no_name(host: Host) -> None:
    true, name = fresh(host)
    layer = replace(true.layers[1], tar=b"another")
    false = image_of([true.layers[0], layer], label=name, platform=str(NODE))
    put(host, false)
    with pytest.raises(VerificationError):
        host.runtime.publish(publication(false, name), stop=never)
    assert name not in host.runtime.images()


def test_a_blob_that_the_store_lost_is_told(host: Host) -> None:
    image, name = fresh(host)
    host.store.delete(image.layers[0].digest)
    with pytest.raises(StoreError):
        host.runtime.publish(publication(image, name), stop=never)
    assert name not in host.runtime.images()


def test_a_publish_that_is_stopped_gives_no_name(host: Host) -> None:
    image, name = fresh(host)
    with pytest.raises(StoppedError):
        host.runtime.publish(publication(image, name), stop=lambda: True)
    assert name not in host.runtime.images()
    host.runtime.publish(publication(image, name), stop=never)
    assert name in host.runtime.images()


def test_a_new_container_is_told_and_its_image_is_wanted(host: Host) -> None:
    image, name = runnable(host)
    wanted = publication(image, name)
    host.runtime.publish(wanted, stop=never)
    assert str(wanted.content.config) not in host.runtime.wanted()
    host.known(name, pinned=True)
    told = threading.Event()

    def listen() -> None:
        with suppress(ContainerdError):
            for change in host.runtime.changes():
                if change.is_container:
                    told.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    uses = []
    try:
        end = time.monotonic() + LIMIT_SECONDS
        while not told.wait(0.01):  # it listens a moment after it was asked to
            assert time.monotonic() < end
            uses.append(host.use(name))
        assert str(wanted.content.config) in host.runtime.wanted()
    finally:
        for remove in uses:
            remove()
        host.runtime.close()
        thread.join(LIMIT_SECONDS)


def test_changes_are_told_until_it_is_closed(host: Host) -> None:
    image, name = fresh(host)
    told: list[str] = []

    def listen() -> None:
        try:
            told.extend(change.name for change in host.runtime.changes())
        except ContainerdError:
            ended.set()

    ended = threading.Event()
    seen: list[str] = told
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        end, pinned = time.monotonic() + LIMIT_SECONDS, True
        while name not in seen:  # it listens a moment after it was asked to
            assert time.monotonic() < end
            pinned = not pinned
            host.runtime.publish(publication(image, name, pinned=pinned), stop=never)
            time.sleep(0.01)
        seen.clear()
        host.runtime.withdraw([name], [])
        while name not in seen:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        host.runtime.close()
        thread.join(LIMIT_SECONDS)
    assert ended.is_set()


CALLS: list[Callable[[Runtime, Publication], object]] = [
    lambda runtime, _: runtime.images(),
    lambda runtime, _: runtime.blobs(),
    lambda runtime, _: runtime.manifest_of("docker.io/contract/any:1"),
    lambda runtime, wanted: runtime.publish(wanted, stop=never),
    lambda runtime, wanted: runtime.relabel(wanted.names, str(wanted.content.config)),
    lambda runtime, wanted: runtime.withdraw(wanted.names, []),
    lambda runtime, _: next(iter(runtime.changes())),
    lambda runtime, _: runtime.wanted(),
    lambda runtime, _: runtime.has_starting_pod(),
    lambda runtime, _: runtime.unpacked(),
]


@pytest.mark.parametrize("how", ["away", "closed"])
def test_one_that_is_away_or_closed_says_so(host: Host, how: str) -> None:
    image, name = fresh(host)
    wanted = publication(image, name)
    host.go_away() if how == "away" else host.runtime.close()
    for call in CALLS:
        with pytest.raises(ContainerdError):
            call(host.runtime, wanted)
    assert host.runtime.facts.version
    host.runtime.close()
