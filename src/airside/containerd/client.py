"""containerd's services as plain calls: what the parts of `airside.containerd` ask of it.

Thin: each method is one call. Which calls, in which order and why is decided by the callers.
Absence is None or False where it is an answer; else errors are those of `channel`.
Sources: containerd's api/services/*.proto; statuses as tried on 1.6.20, 1.7.24 and 2.1.9.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Self

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from airside.containerd.channel import CALL_SECONDS, Channel
from airside.containerd.proto import (
    containers_pb2,
    content_pb2,
    diff_pb2,
    events_pb2,
    image_events_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    namespaces_pb2,
    snapshots_pb2,
    types_pb2,
    version_pb2,
)
from airside.core.errors import ConflictError, NotFoundError
from airside.core.settings import MIB
from airside.oci.digest import Digest
from airside.oci.model import Descriptor

_SERVICES = "containerd.services"
CONTENT = f"{_SERVICES}.content.v1.Content"
IMAGES = f"{_SERVICES}.images.v1.Images"
LEASES = f"{_SERVICES}.leases.v1.Leases"
SNAPSHOTS = f"{_SERVICES}.snapshots.v1.Snapshots"
DIFF = f"{_SERVICES}.diff.v1.Diff"
NAMESPACES = f"{_SERVICES}.namespaces.v1.Namespaces"
CONTAINERS = f"{_SERVICES}.containers.v1.Containers"
INTROSPECTION = f"{_SERVICES}.introspection.v1.Introspection"
EVENTS = f"{_SERVICES}.events.v1.Events"
VERSION = f"{_SERVICES}.version.v1.Version"

_CHUNK_BYTES = 2 * MIB
"""Of a streamed blob: 1-3 MiB are fastest (design 4.17); gRPC's limit at containerd is 16 MiB."""
APPLY_SECONDS = 1800.0
EXPIRES = "containerd.io/gc.expire"


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob of a namespace: size in bytes, and its labels."""

    digest: str
    size_bytes: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of containerd: a name, where it points, and its labels."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plugin:
    """What containerd says of one of its plugins; `error` is why it was not loaded."""

    type: str
    id: str
    exports: Mapping[str, str]
    capabilities: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """An image was created, updated or deleted in the namespace (`kind`)."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Mount:
    type: str
    source: str
    target: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container: the name of its image, and the snapshot that it writes to."""

    id: str
    image: str
    snapshotter: str
    snapshot_key: str


class Client:
    """A connected client of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.namespace = channel.namespace

    @classmethod
    def open(
        cls, socket: str, namespace: str = "k8s.io", *, patience_seconds: float | None = None
    ) -> Self:
        """The connection is made by the first call."""
        return cls(Channel(socket, namespace, patience_seconds=patience_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()

    # what it is

    def version(self, *, seconds: float = CALL_SECONDS) -> str:
        """For instance `1.7.24`, without a leading v and the distributor's suffix."""
        answer = self.channel.call(
            f"{VERSION}/Version", Empty(), version_pb2.VersionResponse, seconds=seconds
        )
        return answer.version.removeprefix("v").partition("~")[0]

    def server_id(self) -> str:
        """The identity of its root directory: a wiped containerd has another."""
        answer = self.channel.call(
            f"{INTROSPECTION}/Server", Empty(), introspection_pb2.ServerResponse
        )
        return answer.uuid

    def plugins(self, *filters: str) -> list[Plugin]:
        answer = self.channel.call(
            f"{INTROSPECTION}/Plugins",
            introspection_pb2.PluginsRequest(filters=filters),
            introspection_pb2.PluginsResponse,
        )
        return [
            Plugin(p.type, p.id, dict(p.exports), tuple(p.capabilities), p.init_err.message)
            for p in answer.plugins
        ]

    def namespaces(self) -> list[str]:
        answer = self.channel.call(
            f"{NAMESPACES}/List",
            namespaces_pb2.ListNamespacesRequest(),
            namespaces_pb2.ListNamespacesResponse,
        )
        return [n.name for n in answer.namespaces]

    def make_namespace(self) -> None:
        """Make our namespace, if it is not there."""
        request = namespaces_pb2.CreateNamespaceRequest(
            namespace=namespaces_pb2.Namespace(name=self.namespace)
        )
        try:
            self.channel.call(
                f"{NAMESPACES}/Create", request, namespaces_pb2.CreateNamespaceResponse
            )
        except ConflictError:
            return

    # content

    def blob(
        self, digest: Digest, *, namespace: str = "", seconds: float = CALL_SECONDS
    ) -> BlobInfo | None:
        """What the namespace knows of a blob; None if it does not have it."""
        request = content_pb2.InfoRequest(digest=str(digest))
        try:
            answer = self.channel.call(
                f"{CONTENT}/Info",
                request,
                content_pb2.InfoResponse,
                namespace=namespace,
                seconds=seconds,
            )
        except NotFoundError:
            return None
        return _blob(answer.info)

    def blobs(self, *filters: str) -> Iterator[BlobInfo]:
        """All blobs of the namespace."""
        request = content_pb2.ListContentRequest(filters=filters)
        for answer in self.channel.read(
            f"{CONTENT}/List", request, content_pb2.ListContentResponse
        ):
            yield from map(_blob, answer.info)

    def label_blob(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Set these labels and leave the others. Raises NotFoundError."""
        request = content_pb2.UpdateRequest(
            info=content_pb2.Info(digest=str(digest), labels=labels),
            update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
        )
        self.channel.call(f"{CONTENT}/Update", request, content_pb2.UpdateResponse)

    def adopt_blob(
        self, key: str, digest: Digest, size_bytes: int, labels: Mapping[str, str], lease: str
    ) -> None:
        """Commit a blob that lies in the content directory already, without sending it.

        `key` is the ingest key. Raises ConflictError if the namespace has the blob, and
        ContainerdError with the status OUT_OF_RANGE if the backend does not.
        """
        request = content_pb2.WriteContentRequest(
            action=content_pb2.COMMIT,
            ref=key,
            total=size_bytes,
            expected=str(digest),
            offset=size_bytes,
            labels=labels,
        )
        self._write([request], lease)

    def send_blob(
        self,
        key: str,
        digest: Digest,
        size_bytes: int,
        labels: Mapping[str, str],
        lease: str,
        file: BinaryIO,
    ) -> None:
        """Send a blob's bytes and commit it. Raises ConflictError if the namespace has it."""
        self._write(self._chunks(key, digest, size_bytes, labels, file), lease)

    def _chunks(
        self, key: str, digest: Digest, size_bytes: int, labels: Mapping[str, str], file: BinaryIO
    ) -> Iterator[content_pb2.WriteContentRequest]:
        offset = 0
        while chunk := file.read(_CHUNK_BYTES):
            yield content_pb2.WriteContentRequest(
                action=content_pb2.WRITE,
                ref=key,
                total=size_bytes,
                expected=str(digest),
                offset=offset,
                data=chunk,
            )
            offset += len(chunk)
        yield content_pb2.WriteContentRequest(
            action=content_pb2.COMMIT,
            ref=key,
            total=size_bytes,
            expected=str(digest),
            offset=offset,
            labels=labels,
        )

    def _write(self, requests: Iterable[content_pb2.WriteContentRequest], lease: str) -> None:
        self.channel.write(
            f"{CONTENT}/Write",
            requests,
            content_pb2.WriteContentResponse,
            lease=lease,
            seconds=APPLY_SECONDS,
        )

    def delete_blob(self, digest: Digest) -> None:
        """Take a blob out of the namespace; nothing happens if it is gone."""
        request = content_pb2.DeleteContentRequest(digest=str(digest))
        try:
            self.channel.call(f"{CONTENT}/Delete", request, Empty)
        except NotFoundError:
            return

    def abort_write(self, key: str) -> None:
        """Forget an ingest that was begun; nothing happens where there is none."""
        try:
            self.channel.call(f"{CONTENT}/Abort", content_pb2.AbortRequest(ref=key), Empty)
        except NotFoundError:
            return

    def writes(self) -> list[str]:
        """The ingest keys of the namespace."""
        answer = self.channel.call(
            f"{CONTENT}/ListStatuses",
            content_pb2.ListStatusesRequest(),
            content_pb2.ListStatusesResponse,
        )
        return [status.ref for status in answer.statuses]

    def read_blob(
        self,
        digest: Digest,
        *,
        offset: int = 0,
        size_bytes: int = 0,
        seconds: float = APPLY_SECONDS,
    ) -> Iterator[bytes]:
        """The bytes of a blob from an offset; of `size_bytes` 0 all that follow."""
        request = content_pb2.ReadContentRequest(digest=str(digest), offset=offset, size=size_bytes)
        for answer in self.channel.read(
            f"{CONTENT}/Read", request, content_pb2.ReadContentResponse, seconds=seconds
        ):
            yield answer.data

    # images

    def images(self, *filters: str, seconds: float = CALL_SECONDS) -> list[ImageRecord]:
        answer = self.channel.call(
            f"{IMAGES}/List",
            images_pb2.ListImagesRequest(filters=filters),
            images_pb2.ListImagesResponse,
            seconds=seconds,
        )
        return [_image(image) for image in answer.images]

    def image(self, name: str, *, seconds: float = CALL_SECONDS) -> ImageRecord | None:
        request = images_pb2.GetImageRequest(name=name)
        try:
            answer = self.channel.call(
                f"{IMAGES}/Get", request, images_pb2.GetImageResponse, seconds=seconds
            )
        except NotFoundError:
            return None
        return _image(answer.image)

    def create_image(self, record: ImageRecord, *, lease: str = "") -> None:
        """Raises ConflictError if the name is taken, NotFoundError if the target is absent."""
        request = images_pb2.CreateImageRequest(image=_image_message(record))
        self.channel.call(f"{IMAGES}/Create", request, images_pb2.CreateImageResponse, lease=lease)

    def update_image(self, record: ImageRecord, *paths: str, lease: str = "") -> None:
        """Change only what `paths` names: `target`, `labels.<key>` (absent in the record: removed).

        Raises NotFoundError.
        """
        request = images_pb2.UpdateImageRequest(
            image=_image_message(record), update_mask=FieldMask(paths=paths)
        )
        self.channel.call(f"{IMAGES}/Update", request, images_pb2.UpdateImageResponse, lease=lease)

    def delete_image(self, name: str, *, sync: bool = False) -> bool:
        """Forget a name; `sync` collects garbage before it returns. False if it was absent."""
        request = images_pb2.DeleteImageRequest(name=name, sync=sync)
        try:
            self.channel.call(f"{IMAGES}/Delete", request, Empty)
        except NotFoundError:
            return False
        return True

    def image_events(self) -> Iterator[ImageEvent]:
        """What happens to images of the namespace, from now on, until closed or disconnected."""
        topics = ("create", "update", "delete")
        filters = [f'topic=="/images/{kind}",namespace=={self.namespace}' for kind in topics]
        request = events_pb2.SubscribeRequest(filters=filters)
        for envelope in self.channel.read(
            f"{EVENTS}/Subscribe", request, types_pb2.Envelope, seconds=None
        ):
            name = image_events_pb2.ImageDelete.FromString(envelope.event.value).name
            yield ImageEvent(envelope.topic.rpartition("/")[2], name)

    def containers(self) -> list[ContainerRecord]:
        answer = self.channel.call(
            f"{CONTAINERS}/List",
            containers_pb2.ListContainersRequest(),
            containers_pb2.ListContainersResponse,
        )
        return [
            ContainerRecord(c.id, c.image, c.snapshotter, c.snapshot_key) for c in answer.containers
        ]

    # leases

    def create_lease(self, lease: str, *, seconds: float) -> None:
        """A lease that ends by itself after `seconds`, if it is not deleted before."""
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        labels = {EXPIRES: end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        request = leases_pb2.CreateRequest(id=lease, labels=labels)
        self.channel.call(f"{LEASES}/Create", request, leases_pb2.CreateResponse)

    def delete_lease(self, lease: str, *, sync: bool = False) -> None:
        """Nothing happens if it is gone."""
        request = leases_pb2.DeleteRequest(id=lease, sync=sync)
        try:
            self.channel.call(f"{LEASES}/Delete", request, Empty)
        except NotFoundError:
            return

    def leases(self) -> list[str]:
        answer = self.channel.call(
            f"{LEASES}/List", leases_pb2.ListRequest(), leases_pb2.ListResponse
        )
        return [lease.id for lease in answer.leases]

    def add_to_lease(self, lease: str, digest: Digest) -> None:
        """Hold a blob of the namespace. Raises NotFoundError if lease or blob is gone."""
        resource = leases_pb2.Resource(id=str(digest), type="content")
        request = leases_pb2.AddResourceRequest(id=lease, resource=resource)
        self.channel.call(f"{LEASES}/AddResource", request, Empty)

    def add_snapshot_to_lease(self, lease: str, snapshotter: str, key: str) -> None:
        """Hold a snapshot and its parents, if it is there. Raises NotFoundError without a lease."""
        resource = leases_pb2.Resource(id=key, type=f"snapshots/{snapshotter}")
        request = leases_pb2.AddResourceRequest(id=lease, resource=resource)
        self.channel.call(f"{LEASES}/AddResource", request, Empty)

    # snapshots

    def has_snapshot(self, snapshotter: str, key: str) -> bool:
        """Whether a committed snapshot of this name (a chain ID) is there."""
        request = snapshots_pb2.StatSnapshotRequest(snapshotter=snapshotter, key=key)
        try:
            answer = self.channel.call(
                f"{SNAPSHOTS}/Stat", request, snapshots_pb2.StatSnapshotResponse
            )
        except NotFoundError:
            return False
        return answer.info.kind == snapshots_pb2.COMMITTED

    def snapshots(self, snapshotter: str) -> Iterator[str]:
        """The names of the committed snapshots."""
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
        for answer in self.channel.read(
            f"{SNAPSHOTS}/List", request, snapshots_pb2.ListSnapshotsResponse
        ):
            for info in answer.info:
                if info.kind == snapshots_pb2.COMMITTED:
                    yield info.name

    def active_snapshots(self, snapshotter: str) -> list[str]:
        """The keys of the snapshots that are being written."""
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
        answers = self.channel.read(
            f"{SNAPSHOTS}/List", request, snapshots_pb2.ListSnapshotsResponse
        )
        return [i.name for a in answers for i in a.info if i.kind == snapshots_pb2.ACTIVE]

    def prepare_snapshot(
        self, snapshotter: str, key: str, parent: str, labels: Mapping[str, str], lease: str
    ) -> list[Mount]:
        """Begin a snapshot on its parent. Raises ConflictError, NotFoundError."""
        request = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter=snapshotter, key=key, parent=parent, labels=labels
        )
        answer = self.channel.call(
            f"{SNAPSHOTS}/Prepare", request, snapshots_pb2.PrepareSnapshotResponse, lease=lease
        )
        return [Mount(m.type, m.source, m.target, tuple(m.options)) for m in answer.mounts]

    def view_snapshot(self, snapshotter: str, key: str, parent: str, lease: str) -> list[Mount]:
        """Show a committed snapshot read-only. Raises ConflictError, NotFoundError."""
        request = snapshots_pb2.ViewSnapshotRequest(snapshotter=snapshotter, key=key, parent=parent)
        answer = self.channel.call(
            f"{SNAPSHOTS}/View", request, snapshots_pb2.ViewSnapshotResponse, lease=lease
        )
        return [Mount(m.type, m.source, m.target, tuple(m.options)) for m in answer.mounts]

    def commit_snapshot(
        self, snapshotter: str, name: str, key: str, labels: Mapping[str, str], lease: str
    ) -> None:
        """Make the snapshot `key` the committed one `name`. Raises ConflictError if that is."""
        request = snapshots_pb2.CommitSnapshotRequest(
            snapshotter=snapshotter, name=name, key=key, labels=labels
        )
        self.channel.call(f"{SNAPSHOTS}/Commit", request, Empty, lease=lease)

    def remove_snapshot(self, snapshotter: str, key: str) -> None:
        """Nothing happens if it is gone."""
        request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
        try:
            self.channel.call(f"{SNAPSHOTS}/Remove", request, Empty)
        except NotFoundError:
            return

    def apply(
        self,
        layer: Descriptor,
        mounts: Iterable[Mount],
        lease: str,
        *,
        stop: Callable[[], bool] | None = None,
    ) -> Digest:
        """Unpack a layer of the namespace's content into mounts; gives the digest of its tar.

        Raises NotFoundError if the blob is not there, StoppedError.
        """
        request = diff_pb2.ApplyRequest(
            diff=_descriptor_message(layer),
            mounts=[
                types_pb2.Mount(type=m.type, source=m.source, target=m.target, options=m.options)
                for m in mounts
            ],
        )
        answer = self.channel.call(
            f"{DIFF}/Apply",
            request,
            diff_pb2.ApplyResponse,
            lease=lease,
            seconds=APPLY_SECONDS,
            stop=stop,
        )
        algorithm, _, text = answer.applied.digest.partition(":")
        return Digest(algorithm, text)


def _blob(info: content_pb2.Info) -> BlobInfo:
    return BlobInfo(info.digest, info.size, dict(info.labels))


def _image(image: images_pb2.Image) -> ImageRecord:
    algorithm, _, text = image.target.digest.partition(":")
    target = Descriptor(
        image.target.media_type,
        Digest(algorithm, text),
        image.target.size,
        annotations=dict(image.target.annotations),
    )
    return ImageRecord(image.name, target, dict(image.labels))


def _image_message(record: ImageRecord) -> images_pb2.Image:
    return images_pb2.Image(
        name=record.name, labels=record.labels, target=_descriptor_message(record.target)
    )


def _descriptor_message(descriptor: Descriptor) -> types_pb2.Descriptor:
    return types_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=str(descriptor.digest),
        size=descriptor.size_bytes,
        annotations=descriptor.annotations,
    )
