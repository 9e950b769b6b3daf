"""A container runtime in memory: what the publisher's decisions are tested on."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

from airside.core.errors import (
    AirsideError,
    ContainerdError,
    DiffIdMismatchError,
    StoppedError,
    StoreError,
)
from airside.oci.chain import rootfs_of
from airside.oci.digest import Digest
from airside.oci.model import Manifest
from airside.ports.content import ContentStore, OtherAgent, RuntimeFacts
from airside.ports.outcome import Change, Published
from airside.ports.publication import PINNED, PINNED_LABEL, NamedImage, NodeContent, Publication


class MemoryRuntime:
    """Implements `airside.ports.content.Runtime`. `fail` is raised by the next publish of a name.

    `store`: where blobs are taken from, as containerd takes them; without one every blob is there
    and true. Layers that are looked at must be plain tars. `ids` are CRI's own records of images,
    `used` those of them that a container was made from; `away` makes every call fail.
    """

    def __init__(self, store: ContentStore | None = None) -> None:
        self.named: dict[str, NamedImage] = {}
        self.ids: dict[str, NamedImage] = {}
        self.held: set[str] = set()
        self.contents: dict[Digest, NodeContent] = {}
        self.unpacked_images: set[Digest] = set()
        self.used: set[str] = set()
        self.fail: dict[str, AirsideError] = {}
        self.published: list[Publication] = []
        self.relabelled = 0
        self.away = False
        self.other: OtherAgent | None = None
        self.knows_pins = True
        self.wanted_now: set[str] = set()
        self.pod_starts = False
        self._store = store
        self._lock = threading.Lock()
        self._watching: list[queue.SimpleQueue[Change | None]] = []

    @property
    def facts(self) -> RuntimeFacts:
        return RuntimeFacts(
            version="2.1.9",
            server_id="memory",
            knows_pins=self.knows_pins,
            has_cri=True,
            snapshotter="memory",
            unpacks=True,
            content_root="",
            why_streamed="",
            why_copied="",
            ways={},
        )

    @property
    def content(self) -> None:
        return None

    @property
    def copies(self) -> None:
        return None

    @property
    def puller(self) -> None:
        return None

    @property
    def early(self) -> None:
        return None

    def claim(self) -> OtherAgent | None:
        self._answer()
        return self.other

    def pass_ended(self) -> None:
        """Nothing is unpacked early here."""

    def images(self) -> dict[str, NamedImage]:
        self._answer()
        return {**self.named, **self.ids}

    def blobs(self) -> frozenset[str]:
        self._answer()
        return frozenset(self.held)

    def manifest_of(self, name: str) -> Digest | None:
        self._answer()
        found = self.named.get(name) or self.ids.get(name)
        if found is None:
            return None
        content = self.contents.get(found.target)
        return content.manifest.digest if content is not None else found.target

    def publish(self, publication: Publication, *, stop: Callable[[], bool]) -> Published:
        self._answer()
        if stop():
            raise StoppedError("publishing was stopped")
        for name in publication.names:
            if name in self.fail:
                raise self.fail[name]
        content = publication.content
        with self._lock:
            return self._publish(publication, content)

    def _publish(self, publication: Publication, content: NodeContent) -> Published:
        ways = self._take(content)
        if publication.unpack and content.config not in self.unpacked_images:
            self._verify(content)
            self.unpacked_images.add(content.config)
        self.published.append(publication)
        self.contents[content.target.digest] = content
        self.contents.setdefault(content.manifest.digest, NodeContent(content.chain[-1:]))
        for name, labels in publication.names.items():
            self._set(NamedImage(name, publication.target_of(name).digest, labels))
        self._know(content, publication.names)
        is_unpacked = content.config in self.unpacked_images
        return Published(ways, is_unpacked, chain=str(content.config))

    def _take(self, content: NodeContent) -> dict[str, int]:
        absent = [blob for blob in content.blobs if str(blob.digest) not in self.held]
        if self._store is not None and (lost := self._store.missing(absent)):
            raise StoreError(f"blob {lost[0].digest} was collected meanwhile")
        self.held |= {str(blob.digest) for blob in absent}
        ways = {"link": len(absent), "held": len(content.blobs) - len(absent)}
        return {way: count for way, count in ways.items() if count}

    def _verify(self, content: NodeContent) -> None:
        if self._store is None:
            return
        assert isinstance(content.manifest.content, Manifest)
        with self._store.open(content.config) as config:
            rootfs = rootfs_of(content.manifest, config.read())
        for step in rootfs.steps:
            with self._store.open(step.layer.digest) as layer:
                if hashlib.sha256(layer.read()).hexdigest() != step.diff_id.hex:
                    raise DiffIdMismatchError(f"layer {step.layer.digest} is another")

    def _set(self, wanted: NamedImage) -> None:
        """Others' labels stay."""
        found = self.named.get(wanted.name)
        labels = dict(found.labels) if found is not None else {}
        labels.pop(PINNED_LABEL, None)
        labels = {k: v for k, v in {**labels, **wanted.labels}.items() if v}  # as containerd does
        made = NamedImage(wanted.name, wanted.target, labels)
        if made != found:
            self.named[wanted.name] = made
            self._tell(wanted.name)

    def _know(self, content: NodeContent, names: Iterable[str]) -> None:
        """As CRI does: an image has a record of its own under its ID, pinned if a name is."""
        image_id, target = str(content.config), content.target.digest
        pinned = any(self.named[name].pinned for name in names)
        self.ids[image_id] = NamedImage(image_id, target, {PINNED_LABEL: PINNED} if pinned else {})

    def relabel(self, names: Mapping[str, Mapping[str, str]], image_id: str) -> None:
        self._answer()
        assert image_id.startswith("sha256:")
        self.relabelled += 1
        for name, labels in names.items():
            if name in self.named:
                self._set(NamedImage(name, self.named[name].target, labels))
        pins = {labels.get(PINNED_LABEL) for labels in names.values()}
        if image_id in self.ids and len(pins) == 1:
            labels = {PINNED_LABEL: pin} if (pin := pins.pop()) else {}
            self.ids[image_id] = NamedImage(image_id, self.ids[image_id].target, labels)

    def withdraw(self, names: Iterable[str], image_ids: Iterable[str]) -> frozenset[str]:
        self._answer()
        kept = {name: i for name in names if "@" in name and (i := self._id_of(name)) in self.used}
        for name in names:
            if name not in kept and self.named.pop(name, None) is not None:
                self._tell(name)
        wanted = {str(c.config) for c in self.contents.values() if self._is_named(c)}
        leaving = set(image_ids) - wanted
        for image_id in leaving - self.used:
            self.ids.pop(image_id, None)
        self.collect()
        return frozenset(leaving & self.used).union(kept, kept.values())

    def _id_of(self, name: str) -> str:
        found = self.named.get(name)
        content = self.contents.get(found.target) if found is not None else None
        return str(content.config) if content is not None else ""

    def _is_named(self, content: NodeContent) -> bool:
        return any(image.target == content.target.digest for image in self.named.values())

    def collect(self) -> None:
        """Forget the blobs of images that have no name and no record."""
        roots = {image.target for image in self.images().values()}
        kept = [content for target, content in self.contents.items() if target in roots]
        gone = [content for target, content in self.contents.items() if target not in roots]
        needed = {str(blob.digest) for content in kept for blob in content.blobs}
        for content in gone:
            self.held -= {str(blob.digest) for blob in content.blobs} - needed
            if content.config not in {each.config for each in kept}:
                self.unpacked_images.discard(content.config)
            del self.contents[content.target.digest]

    def unpacked(self) -> frozenset[str]:
        self._answer()
        return frozenset(map(str, self.unpacked_images))

    def wanted(self) -> frozenset[str]:
        self._answer()
        return frozenset({*self.used, *self.wanted_now})

    def has_starting_pod(self) -> bool:
        self._answer()
        return self.pod_starts

    def changes(self) -> Iterator[Change]:
        self._answer()
        told: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._watching.append(told)
        while (change := told.get()) is not None:
            yield change
        self._answer()

    def create_container(self, image_id: str) -> None:
        self.used.add(image_id)
        self._tell("container", is_container=True)

    def _tell(self, name: str, *, is_container: bool = False) -> None:
        for told in self._watching:
            told.put(Change(name, is_container=is_container))

    def _answer(self) -> None:
        if self.away:
            raise ContainerdError("containerd: it is away", status="UNAVAILABLE")

    def close(self) -> None:
        self.away = True
        for told in self._watching:
            told.put(None)
