"""Publishes images to containerd. Implements `airside.ports.content.Runtime`.

The order of a publish: lease → content (`adopt`) → unpack → names → sync of what was unpacked → end
of the lease (ADR 0016). An interrupted publish leaves only what the lease holds, and the next
connection sweeps it. An image that does not unpack never gets its name; one that has its name may
lose its snapshots in a power cut until the publish has ended (`pending_sync`, ADR 0021).
"""

import contextlib
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self

from airside.containerd.adopt import Adopter, LabelledBlob
from airside.containerd.agent_claim import AgentClaim, Claimant
from airside.containerd.blob_copies import ContainerdCopies
from airside.containerd.client import Client
from airside.containerd.content_directory import BlobSource, ContentDirectory
from airside.containerd.cri import Cri
from airside.containerd.discovery import LOCAL_SNAPSHOTTERS, Facts, discover
from airside.containerd.early_unpacks import EarlyUnpacks
from airside.containerd.group_placing import GroupPlacing
from airside.containerd.image_names import ImageNames
from airside.containerd.image_puller import ImagePuller
from airside.containerd.intents import Intents
from airside.containerd.layer_footprint import OpenTar
from airside.containerd.local_unpacking import LocalUnpacking
from airside.containerd.node_manifests import DOCUMENT_BYTES, NodeManifests
from airside.containerd.pending_sync import PendingSync
from airside.containerd.read_through import ContainerdContent
from airside.containerd.refused_members import RefusedMembers
from airside.containerd.runtime_options import RuntimeOptions
from airside.containerd.services.images import ImageRecord
from airside.containerd.starting_pods import has_starting_pod
from airside.containerd.unpack import Unpacked
from airside.containerd.wanted_images import WantedImages
from airside.containerd.withdrawal import Withdrawal
from airside.core.errors import (
    AirsideError,
    ContainerdError,
    LayerRefusedError,
    ManifestInvalidError,
    NotFoundError,
    NotRunnableError,
    StorageFullError,
)
from airside.core.failpoints import fault
from airside.core.timeline import stage
from airside.oci.chain import Rootfs, rootfs_of
from airside.oci.digest import Digest
from airside.oci.model import Manifest
from airside.ports.content import OtherAgent, RuntimeFacts
from airside.ports.outcome import Change, Published
from airside.ports.publication import (
    NamedImage,
    Publication,
)
from airside.ports.unpacking_facts import UnpackingFacts

log = logging.getLogger("airside.containerd")

__all__ = ["ContainerdRuntime", "RuntimeOptions"]

KUBELET_NAMESPACE = "k8s.io"
_LEASE_SECONDS = 6 * 3600.0
_TRIES = 3

Stop = Callable[[], bool]


class ContainerdRuntime:
    """A connected containerd. Thread-safe. Close it when calls fail because containerd is away."""

    def __init__(
        self,
        client: Client,
        facts: Facts,
        store: BlobSource,
        intents: Intents,
        options: RuntimeOptions,
        *,
        open_tar: OpenTar | None = None,
        pending_sync: PendingSync | None = None,
    ) -> None:
        self._client, self._store = client, store
        self._options, self._facts = options, facts
        root = Path(facts.content_root) if facts.content_root else None
        directory = ContentDirectory(root, store, options.identity, options.space) if root else None
        self._adopter = Adopter(client, store, intents, directory, options.identity)
        self._unpacking: LocalUnpacking | None = None
        if facts.snapshotter in LOCAL_SNAPSHOTTERS:
            self._unpacking = LocalUnpacking(client, facts, store, options, open_tar, pending_sync)
        self._unpacker = self._unpacking.unpacker if self._unpacking is not None else None
        self._refused = RefusedMembers(store.open, open_tar) if open_tar is not None else None
        self._cri = Cri(client.channel) if facts.has_cri else None
        self._manifests = NodeManifests(client, options.node)
        self._names = ImageNames(client.images)
        self._wanted = WantedImages(client, self._cri, facts.sandbox)
        self._withdrawal = Withdrawal(client, self._cri, self._manifests, self._wanted)
        claimant = Claimant(options.identity, options.data, options.process)
        lockable = root if client.namespace == KUBELET_NAMESPACE else None
        self._claim = AgentClaim(client.leases, lockable, claimant)
        self._ways: Counter[str] = Counter()
        self._lock = threading.Lock()
        placing = threading.Lock()
        self._placing = GroupPlacing(self._adopter, placing)
        self._content = ContainerdContent(client, root, options.limits)
        self._copies = ContainerdCopies(client, root, self._adopter, placing)

    @classmethod
    def connect(
        cls,
        socket: str,
        namespace: str,
        store: BlobSource,
        intents: Intents,
        options: RuntimeOptions,
        *,
        open_tar: OpenTar | None = None,
        pending_sync: PendingSync | None = None,
    ) -> Self:
        """Connects, sweeps what an earlier publish left, and proves adoption.

        `open_tar` lets us decompress layers for containerd. `pending_sync` outlives the process:
        without it, snapshots that a power cut damaged are not found.

        Raises ContainerdError if containerd is away.
        """
        client = Client.open(socket, namespace)
        try:
            facts = discover(client, snapshotter=options.snapshotter)
            client.namespaces.create()
            runtime = cls(
                client, facts, store, intents, options, open_tar=open_tar, pending_sync=pending_sync
            )
            runtime.start()
        except BaseException:
            client.close()
            raise
        return runtime

    def start(self) -> None:
        """Sweeps what an earlier publish left, and proves adoption. Raises ContainerdError."""
        self._adopter.sweep()
        if self._unpacker is not None:
            self._unpacker.sweep()
        self._adopter.prove()
        if self._unpacking is not None:
            self._unpacking.start(shares_content=self._adopter.shares_directory)

    def close(self) -> None:
        if self._unpacking is not None:
            self._unpacking.close()
        self._claim.release()
        self._client.close()

    @property
    def puller(self) -> ImagePuller | None:
        if self._cri is None:
            return None
        name = f"{self._client.channel.socket} {self._facts.server_id}"
        roots = (self._facts.content_root, self._facts.snapshotter_root)
        return ImagePuller(
            self._cri,
            name,
            seconds=self._options.pull_seconds,
            space=self._options.space,
            paths=[Path(root) for root in roots if root],
        )

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
            why_copied=self._adopter.why_copied,
            ways=ways,
            unpacking=self._unpacking.facts if self._unpacking is not None else UnpackingFacts(),
        )

    @property
    def content(self) -> ContainerdContent:
        return self._content

    @property
    def copies(self) -> ContainerdCopies:
        return self._copies

    @property
    def early(self) -> EarlyUnpacks | None:
        return self._unpacking.early if self._unpacking is not None else None

    def claim(self) -> OtherAgent | None:
        other = self._claim.take()
        if self.early is not None:
            self.early.pass_begins(is_ours=other is None)
        return other

    def pass_ended(self) -> None:
        if self.early is not None:
            self.early.pass_ended()

    def images(self) -> dict[str, NamedImage]:
        return {
            record.name: NamedImage(record.name, record.target.digest, record.labels)
            for record in self._client.images.list()
        }

    def blobs(self) -> frozenset[str]:
        return frozenset(blob.digest for blob in self._client.content.list())

    def unpacked(self) -> frozenset[str]:
        if self._unpacker is None:
            return frozenset()
        return frozenset(self._client.snapshots.list_committed(self._facts.snapshotter))

    def wanted(self) -> frozenset[str]:
        return self._wanted.find()

    def has_starting_pod(self) -> bool:
        return has_starting_pod(self._client.containers.list())

    def changes(self) -> Iterator[Change]:
        for event in self._client.events.subscribe():
            yield Change(event.name, is_container=event.is_container, has_ended=event.has_ended)

    def manifest_of(self, name: str) -> Digest | None:
        return self._manifests.of(name)

    def relabel(self, names: Mapping[str, Mapping[str, str]], image_id: str) -> None:
        self._names.relabel(names, image_id)

    def withdraw(self, names: Iterable[str], image_ids: Iterable[str]) -> frozenset[str]:
        return self._withdrawal.run(names, image_ids)

    def publish(self, publication: Publication, *, stop: Stop) -> Published:
        self._claim.keep()  # a pass over many images may take hours
        for attempt in range(_TRIES):
            lease = f"{self._options.identity}-{uuid.uuid4().hex[:12]}"
            is_full = False
            try:
                with stage("lease"):
                    self._client.leases.create(lease, seconds=_LEASE_SECONDS)
                fault("publish.after_lease")
                return self._publish(publication, lease, stop, again=attempt > 0)
            except NotFoundError as exc:  # the lease, or what it held, is gone: restart
                if attempt == _TRIES - 1:
                    raise ContainerdError(f"{exc.message} ({_TRIES} tries)") from exc
                log.info("publish of %s is restarted: %s", publication.target.digest, exc.message)
            except StorageFullError:
                is_full = True
                raise
            finally:  # on a full disk, what the lease held is deleted at once
                with contextlib.suppress(AirsideError), stage("release"):
                    self._client.leases.delete(lease, sync=is_full)
        raise AssertionError

    def _publish(
        self, publication: Publication, lease: str, stop: Stop, *, again: bool
    ) -> Published:
        content = publication.content
        blobs = [
            LabelledBlob(blob, publication.blob_labels(blob.digest))
            for blob in content.blobs
            if blob.is_distributable or self._store.path(blob.digest).exists()
        ]
        with stage("blobs"):
            ways = self._placing.place(blobs, lease)
        with self._lock:
            self._ways.update(ways)
        fault("publish.after_content")
        rootfs = self._rootfs(publication)
        done = self._unpack_and_name(publication, rootfs, lease, stop, again=again)
        # proves that the lease still held the content when the names were set
        self._client.leases.add_blob(lease, publication.target.digest)
        if isinstance(rootfs, str):
            return Published(ways=dict(ways), unpacked=False, not_unpacked=rootfs)
        chain = str(rootfs.steps[-1].chain) if rootfs.steps else ""
        if self.early is not None and done is not None:
            self.early.published(rootfs.steps[-1].chain)
        return Published(
            ways=dict(ways),
            unpacked=done is not None,
            chain=chain,
            unpack_seconds=done.seconds if done is not None and done.layers else 0.0,
        )

    def _unpack_and_name(
        self, publication: Publication, rootfs: Rootfs | str, lease: str, stop: Stop, *, again: bool
    ) -> Unpacked | None:
        """Unpacks and names an image. Returns None if it is not unpacked durably."""

        def name() -> None:
            fault("publish.after_unpack")
            with stage("names"):
                self._name(publication, lease, again=again)
            fault("publish.after_names")

        if isinstance(rootfs, str) or self._unpacker is None:
            name()
            return None
        if not publication.unpack and not self._unpacker.is_unpacked(rootfs):
            name()
            return None
        try:
            with stage("unpack"):
                return self._unpacker.unpack(rootfs, lease=lease, stop=stop, ready=name)
        except LayerRefusedError as exc:
            raise _numbered(exc, rootfs) from exc
        except ContainerdError as exc:
            if not exc.is_away:
                self._explain(exc, rootfs, stop)
            raise

    def _explain(self, refusal: ContainerdError, rootfs: Rootfs, stop: Stop) -> None:
        """Raises ContainerdError with the member for which containerd refused a layer, if known."""
        for number, layer in enumerate(rootfs.layers, start=1):
            if self._refused is not None and str(layer.digest) == refusal.context.get("blob"):
                reason = self._refused.explain(layer, stop)
                if reason:
                    what = f"layer {number} ({layer.digest.short}): {reason}"
                    raise ContainerdError(what, blob=layer.digest) from refusal

    def _rootfs(self, publication: Publication) -> Rootfs | str:
        """Returns what to unpack, or why nothing can be unpacked."""
        if self._unpacker is None:
            return f"the snapshotter {self._facts.snapshotter} unpacks layers itself"
        manifest = publication.content.manifest
        assert isinstance(manifest.content, Manifest)
        with self._open(manifest.content.config.digest) as file:
            raw = file.read(DOCUMENT_BYTES)
        try:
            return rootfs_of(manifest, raw)
        except (NotRunnableError, ManifestInvalidError) as exc:
            return exc.message

    def _open(self, digest: Digest) -> BinaryIO:
        return self._store.open(digest)

    def _name(self, publication: Publication, lease: str, *, again: bool) -> None:
        for name, labels in publication.names.items():
            record = ImageRecord(name, publication.target_of(name), labels)
            self._names.set(record, lease, touch=again)
            fault("publish.after_name")

    @property
    def cri(self) -> Cri | None:
        return self._cri


def _numbered(refusal: LayerRefusedError, rootfs: Rootfs) -> LayerRefusedError:
    """Returns the error of a layer with the layer's place in the image."""
    for number, layer in enumerate(rootfs.layers, start=1):
        if str(layer.digest) == refusal.context.get("blob"):
            what = f"layer {number} ({layer.digest.short}): {refusal.message}"
            return LayerRefusedError(what, **refusal.context)
    return refusal
