"""containerd as a runtime that images are published to. See `airside.ports.content.Runtime`.

The order of a publish: lease → content (`adopt`) → unpack → names → what was unpacked is synced →
end of the lease. What is interrupted leaves only what the lease holds, and what the next
connection sweeps. An image that does not unpack never gets its name; one that has its name may
lose its snapshots in a power cut until the publish has ended (`unsynced`, ADR 0021).
"""

import contextlib
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self

from airside.containerd.adopt import Adopter, BlobSource, Intents, Placed
from airside.containerd.blob_copies import ContainerdCopies
from airside.containerd.client import Client
from airside.containerd.cri import PULL_SECONDS, Cri
from airside.containerd.discovery import LOCAL_SNAPSHOTTERS, Facts, gather
from airside.containerd.image_puller import CriPuller
from airside.containerd.pending_sync import Unsynced
from airside.containerd.read_through import ContainerdContent
from airside.containerd.services.images import ImageRecord
from airside.containerd.uncompressed_layers import OpenTar, Twins
from airside.containerd.unpack import Unpacker
from airside.core.errors import (
    AirsideError,
    ConflictError,
    ContainerdError,
    ManifestInvalidError,
    NotFoundError,
    NotRunnableError,
)
from airside.core.failpoints import fault
from airside.core.settings import Limits
from airside.oci.chain import Rootfs, rootfs_of
from airside.oci.digest import Digest, is_digest
from airside.oci.model import INDEX_TYPES, Document, Manifest, parse_bare_document, parse_document
from airside.oci.platform import Platform
from airside.ports.content import Published, RuntimeFacts
from airside.ports.publication import (
    ARCHIVES_LABEL,
    PINNED_LABEL,
    NamedImage,
    NodeContent,
    Publication,
    Selector,
)

log = logging.getLogger("airside.containerd")

_LEASE_SECONDS = 6 * 3600.0
_TRIES = 3
_DOCUMENT_BYTES = 4 * 1024 * 1024

Stop = Callable[[], bool]


class ContainerdRuntime:
    """A connected containerd. Thread-safe; close it when calls fail because it is away."""

    def __init__(
        self,
        client: Client,
        facts: Facts,
        store: BlobSource,
        intents: Intents,
        *,
        identity: str,
        node: Platform,
        threads: int,
        limits: Limits,
        min_free_bytes: int = 0,
        open_tar: OpenTar | None = None,
        unsynced: Unsynced | None = None,
        pull_seconds: float = PULL_SECONDS,
    ) -> None:
        self._client, self._store, self._node = client, store, node
        self._identity, self._facts = identity, facts
        self._cri = Cri(client.channel) if facts.has_cri else None
        self._pull_seconds = pull_seconds
        self._adopter = Adopter(client, store, intents, facts.content_root, identity)
        root = Path(facts.content_root) if facts.content_root else None
        self._content = ContainerdContent(client, root, limits)
        self._twins: Twins | None = None
        self._unpacker: Unpacker | None = None
        if facts.snapshotter in LOCAL_SNAPSHOTTERS:
            snapshots = Path(facts.snapshotter_root) if facts.snapshotter_root else None
            if root is not None and open_tar is not None:
                twins = root / f".{identity}-twins"
                self._twins = Twins(client, twins, root, open_tar, min_free_bytes=min_free_bytes)
            self._unpacker = Unpacker(
                client,
                facts.snapshotter,
                threads=threads,
                identity=identity,
                root=snapshots,
                twins=self._twins,
                unsynced=unsynced,
                min_free_bytes=min_free_bytes,
            )
        self._manifests: dict[Digest, Digest | None] = {}
        self._ways: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._placing = threading.Lock()
        self._copies = ContainerdCopies(client, root, self._adopter, self._placing)

    @classmethod
    def connect(
        cls,
        socket: str,
        namespace: str,
        store: BlobSource,
        intents: Intents,
        *,
        identity: str,
        node: Platform,
        snapshotter: str = "",
        threads: int = 2,
        limits: Limits | None = None,
        min_free_bytes: int = 0,
        open_tar: OpenTar | None = None,
        unsynced: Unsynced | None = None,
        pull_seconds: float = PULL_SECONDS,
    ) -> Self:
        """Connect, prove the fast way, and sweep what an earlier publish left.

        `open_tar` lets containerd have layers that it need not decompress. `unsynced` outlives
        the process: without, what a power cut damages of what was just unpacked is not found.

        Raises ContainerdError if containerd is away.
        """
        client = Client.open(socket, namespace)
        try:
            facts = gather(client, snapshotter=snapshotter)
            client.namespaces.create()
            runtime = cls(
                client,
                facts,
                store,
                intents,
                identity=identity,
                node=node,
                threads=threads,
                limits=limits or Limits(),
                min_free_bytes=min_free_bytes,
                open_tar=open_tar,
                unsynced=unsynced,
                pull_seconds=pull_seconds,
            )
            runtime.start()
        except BaseException:
            client.close()
            raise
        return runtime

    def start(self) -> None:
        """Sweep and prove."""
        self._adopter.sweep()
        if self._unpacker is not None:
            self._unpacker.sweep()
        self._adopter.prove()
        if self._twins is not None:
            self._twins.enabled = self._adopter.shares_directory

    def close(self) -> None:
        if self._unpacker is not None:
            self._unpacker.close(wait=False)
        self._client.close()

    @property
    def puller(self) -> CriPuller | None:
        if self._cri is None:
            return None
        name = f"{self._client.channel.socket} {self._facts.server_id}"
        return CriPuller(self._cri, name, seconds=self._pull_seconds)

    @property
    def client(self) -> Client:
        return self._client

    @property
    def facts(self) -> RuntimeFacts:
        with self._lock:
            ways = dict(self._ways)
        return RuntimeFacts(
            version=self._facts.version,
            server_id=self._facts.server_id,
            knows_pins=self._facts.knows_pins,
            has_cri=self._facts.has_cri,
            snapshotter=self._facts.snapshotter,
            unpacks=self._unpacker is not None,
            content_root=self._facts.content_root,
            why_streamed=self._adopter.why_streamed,
            ways=ways,
        )

    @property
    def content(self) -> ContainerdContent:
        return self._content

    @property
    def copies(self) -> ContainerdCopies:
        return self._copies

    # what is there

    def images(self) -> dict[str, NamedImage]:
        return {
            record.name: NamedImage(record.name, record.target.digest, record.labels)
            for record in self._client.images.list()
        }

    def blobs(self) -> frozenset[str]:
        return frozenset(blob.digest for blob in self._client.content.list())

    def manifest_of(self, name: str) -> Digest | None:
        record = self._client.images.get(name)
        if record is None:
            return None
        target = record.target
        if target.media_type not in INDEX_TYPES:
            return target.digest
        with self._lock:
            if target.digest in self._manifests:
                return self._manifests[target.digest]
        found = self._chosen(target.digest, target.media_type)
        with self._lock:
            self._manifests[target.digest] = found
        return found

    def _chosen(self, digest: Digest, media_type: str) -> Digest | None:
        """The node's manifest below an index that containerd holds."""
        target = self._document(digest, media_type)
        if target is None:
            return None
        selector = Selector(
            self._node,
            lambda d: self._document(d.digest, d.media_type),
            lambda _manifest: None,
            lambda _manifest: True,
        )
        chosen = selector.choose(target)
        return chosen.manifest.digest if isinstance(chosen, NodeContent) else None

    def _document(self, digest: Digest, media_type: str) -> Document | None:
        try:
            info = self._client.content.info(digest)
            if info is None or info.size_bytes > _DOCUMENT_BYTES:
                return None
            raw = b"".join(self._client.content.read(digest))
            return parse_document(raw, media_type, str(digest), algorithm=digest.algorithm)
        except (NotFoundError, ManifestInvalidError):
            return None

    def changes(self) -> Iterator[str]:
        for event in self._client.events.subscribe_images():
            yield event.name

    # publishing

    def publish(self, publication: Publication, *, stop: Stop) -> Published:
        for attempt in range(_TRIES):
            lease = f"{self._identity}-{uuid.uuid4().hex[:12]}"
            try:
                self._client.leases.create(lease, seconds=_LEASE_SECONDS)
                fault("publish.after_lease")
                return self._publish(publication, lease, stop, again=attempt > 0)
            except NotFoundError as exc:  # the lease, or what it held, is gone: begin again
                if attempt == _TRIES - 1:
                    raise ContainerdError(f"{exc.message}, again and again") from exc
                log.info("%s: %s: begun again", publication.target.digest, exc.message)
            finally:
                with contextlib.suppress(AirsideError):
                    self._client.leases.delete(lease)
        raise AssertionError

    def _publish(
        self, publication: Publication, lease: str, stop: Stop, *, again: bool
    ) -> Published:
        content = publication.content
        blobs = [
            Placed(blob, publication.blob_labels(blob.digest))
            for blob in content.blobs
            if blob.is_distributable or self._store.path(blob.digest).exists()
        ]
        with self._placing:  # images share blobs, and each has one ingest key
            ways = self._adopter.place(blobs, lease)
        with self._lock:
            self._ways.update(ways)
        fault("publish.after_content")
        unpacked, reason = self._unpack_and_name(publication, lease, stop, again=again)
        # what was placed was there when it was named, if the lease is there still
        self._client.leases.add_blob(lease, publication.target.digest)
        return Published(ways=dict(ways), unpacked=unpacked, not_unpacked=reason)

    def _unpack_and_name(
        self, publication: Publication, lease: str, stop: Stop, *, again: bool
    ) -> tuple[bool, str]:
        """Whether the image is unpacked now, durably, and if it can't be: why. It is named."""

        def name() -> None:
            fault("publish.after_unpack")
            self._name(publication, lease, again=again)
            fault("publish.after_names")

        rootfs = self._rootfs(publication)
        if isinstance(rootfs, str) or self._unpacker is None:
            name()
            return False, rootfs if isinstance(rootfs, str) else ""
        if not publication.unpack and not self._unpacker.is_unpacked(rootfs):
            name()
            return False, ""
        self._unpacker.unpack(rootfs, lease=lease, stop=stop, ready=name)
        return True, ""

    def _rootfs(self, publication: Publication) -> Rootfs | str:
        """What is to be unpacked, or why nothing can be."""
        if self._unpacker is None:
            return f"the snapshotter {self._facts.snapshotter} unpacks by itself"
        manifest = publication.content.manifest
        assert isinstance(manifest.content, Manifest)
        with self._open(manifest.content.config.digest) as file:
            raw = file.read(_DOCUMENT_BYTES)
        try:
            return rootfs_of(manifest, raw)
        except (NotRunnableError, ManifestInvalidError) as exc:
            return exc.message

    def _open(self, digest: Digest) -> BinaryIO:
        return self._store.open(digest)

    def _name(self, publication: Publication, lease: str, *, again: bool) -> None:
        for name, labels in publication.names.items():
            self._set(ImageRecord(name, publication.target, labels), lease, tell=again)
            fault("publish.after_name")

    def _set(self, wanted: ImageRecord, lease: str, *, tell: bool = False) -> None:
        """Create a name, or change what differs and leave the labels of others.

        `tell`: also where nothing differs, so that CRI, which saw it without content, looks again.
        """
        found = self._client.images.get(wanted.name)
        if found is None:
            try:
                self._client.images.create(wanted, lease=lease)
            except ConflictError:
                found = self._client.images.get(wanted.name)
            else:
                return
        if found is None:
            raise NotFoundError(f"{wanted.name} comes and goes")
        paths = [
            f"labels.{key}"
            for key in {*wanted.labels, PINNED_LABEL}
            if found.labels.get(key) != wanted.labels.get(key)
        ]
        if found.target.digest != wanted.target.digest:
            paths.append("target")
        if tell and not paths:
            paths.append(f"labels.{ARCHIVES_LABEL}")
        if paths:
            self._client.images.update(wanted, *paths, lease=lease)

    def relabel(self, names: Mapping[str, Mapping[str, str]], image_id: str) -> None:
        images = {record.name: record for record in self._client.images.list()}
        pins = set()
        for name, labels in names.items():
            pins.add(labels.get(PINNED_LABEL))
            if name in images:
                with contextlib.suppress(NotFoundError):
                    self._set(ImageRecord(name, images[name].target, labels), "")
        own = images.get(image_id)
        if own is not None and len(pins) == 1:  # CRI's record of the image has its own pin
            [pin] = pins
            if own.labels.get(PINNED_LABEL) != pin:
                labels = {PINNED_LABEL: pin} if pin else {}
                record = ImageRecord(image_id, own.target, labels)
                with contextlib.suppress(NotFoundError):
                    self._client.images.update(record, f"labels.{PINNED_LABEL}")

    # withdrawing

    def withdraw(self, names: Iterable[str], image_ids: Iterable[str]) -> frozenset[str]:
        gone = list(names)
        for name in gone:
            self._client.images.delete(name)
            fault("publish.after_withdraw")
        left = {i for i in image_ids if is_digest(i)}
        if not left:
            return frozenset()
        return self._drop_ids(left, frozenset(gone))

    def _drop_ids(self, image_ids: set[str], gone: frozenset[str]) -> frozenset[str]:
        """Delete CRI's own records of images without another name; gives those still in use.

        Such a record (`sha256:<config digest>`) keeps the content of a deleted image.
        """
        records = {record.name: record for record in self._client.images.list()}
        present = records.keys() & image_ids
        if not present or self._cri is None:
            return frozenset()
        told = {image.id: {*image.tags, *image.digests} for image in self._cri.images()}
        named = {i for i in present if self._is_named(i, records, told.get(i, set()) - gone)}
        used = self._used(gone | present)
        free = sorted(present - named - used)
        for position, image_id in enumerate(free):
            self._client.images.delete(image_id, sync=position == len(free) - 1)
        return frozenset(present & used - named)

    def _is_named(
        self, image_id: str, records: Mapping[str, ImageRecord], told: Iterable[str]
    ) -> bool:
        """Whether an image has a name besides its record. What CRI tells may be of a moment ago."""
        target = records[image_id].target.digest
        if any(r.target.digest == target and not is_digest(n) for n, r in records.items()):
            return True
        return any(self._config_of(name) == image_id for name in told if name in records)

    def _config_of(self, name: str) -> str:
        """The image ID that a name stands for on this node; empty if that can't be told."""
        manifest = self.manifest_of(name)
        with contextlib.suppress(NotFoundError, ManifestInvalidError):
            if manifest is not None:
                raw = b"".join(self._client.content.read(manifest))
                content = parse_bare_document(raw, name).content
                return str(content.config.digest) if isinstance(content, Manifest) else ""
        return ""

    def _used(self, names: frozenset[str]) -> set[str]:
        """The image IDs that containers were made from; all of `names` if that can't be told."""
        found = {c.image for c in self._client.containers.list() if c.image in names}
        if self._cri is not None:
            found |= {c.image_id for c in self._cri.containers()}
        return found

    # pulling, for lists

    @property
    def cri(self) -> Cri | None:
        return self._cri
