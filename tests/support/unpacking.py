"""A namespace of a real containerd that images are unpacked in, and what it holds after that."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import grpc

from airside.archive.tar.window_budget import WindowBudget
from airside.containerd.client import Client
from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.discovery import discover
from airside.containerd.layer_tars import LayerTars
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_connection import WorkerConnection
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.layer_writer.worker_process import WorkerProcess
from airside.containerd.proto import snapshots_pb2
from airside.containerd.services.images import ImageRecord
from airside.containerd.services.snapshots import SNAPSHOTS
from airside.containerd.snapshot_space import SnapshotSpace
from airside.containerd.snapshot_writer import SnapshotWriter
from airside.containerd.uncompressed_layers import UncompressedLayers
from airside.containerd.unpack import Unpacker, Writing
from airside.containerd.verified_tars import VerifiedTars
from airside.containerd.writer_proof import WriterProof
from airside.core.disk_space import DiskSpace
from airside.core.errors import ConflictError, ContainerdError
from airside.core.settings import Limits
from airside.oci.chain import Rootfs
from airside.oci.digest import Digest
from airside.oci.model import Descriptor
from support.containerd import Containerd
from support.images import TestImage, docker_archive, oci_archive, random_image, random_layer
from support.snapshots import rootfs
from support.waiting import LIMIT_SECONDS, wait_until

LEASE = "airside-test"
LEASE_SECONDS = 600.0
GC_CONTENT = "containerd.io/gc.ref.content."


Way = Literal["written", "twins", "direct"]


class Blobs:
    """The blobs of a content directory, as a store of ours that verified none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, digest: Digest) -> BinaryIO:
        return (self._directory / digest.hex).open("rb")

    def is_right(self, _digest: Digest) -> bool:
        return False

    def is_fresh(self, _digest: Digest, _file: BinaryIO | None = None) -> bool:
        return False


class Namespace:
    """A namespace whose blobs were sent, as a publish would have them adopted."""

    def __init__(self, containerd: Containerd, client: Client) -> None:
        self.containerd, self.client = containerd, client
        self.name = client.namespace
        assert containerd.options.snapshotter
        self.snapshotter: str = containerd.options.snapshotter
        self.layers: dict[str, int] = {}
        """The layers of the last unpacker, by who unpacked them."""

    def begin(self) -> None:
        self.client.namespaces.create()
        self.client.leases.create(LEASE, seconds=LEASE_SECONDS)

    def take(self, image: TestImage, name: str = "") -> Rootfs:
        """Send what an image consists of; with a name it becomes an image of containerd."""
        labels: dict[str, dict[str, str]] = {str(image.digest): {}}
        labels[str(image.digest)][f"{GC_CONTENT}config"] = str(image.config.digest)
        for number, layer in enumerate(image.layers):
            labels[str(image.digest)][f"{GC_CONTENT}l.{number}"] = str(layer.digest)
        for blob in reversed(image.blobs):
            self._send(blob.digest, blob.raw, labels.get(str(blob.digest), {}))
        if name:
            target = Descriptor(image.manifest.media_type, image.digest, image.manifest.size_bytes)
            self.client.images.create(ImageRecord(name, target))
        return rootfs(image)

    def _send(self, digest: Any, raw: bytes, labels: Mapping[str, str]) -> None:
        try:
            key = f"test-{digest}"
            self.client.content.send(key, digest, len(raw), labels, LEASE, io.BytesIO(raw))
        except ConflictError:
            self.client.leases.add_blob(LEASE, digest)

    def _directory_writer(
        self, start: Callable[[], WorkerConnection], threads: int
    ) -> DirectoryWriter:
        return DirectoryWriter(WorkerPool(start=start), LayerLimits(), most_big=threads)

    @contextmanager
    def unpacker(
        self,
        *,
        way: Way = "written",
        threads: int = 2,
        start: Callable[[], WorkerConnection] = WorkerProcess,
    ) -> Iterator[Unpacker]:
        """Unpacks in a way: written by us; twins: Apply, decompressed by us; direct: Apply."""
        blobs = Blobs(self.containerd.content_root / "blobs/sha256")
        tars = LayerTars(blobs.open, Limits(), WindowBudget(1 << 26))
        made = UncompressedLayers(
            self.client, self.twins_directory, self.containerd.content_root, tars
        )
        facts = discover(self.client, snapshotter=self.snapshotter)
        root = Path(facts.snapshotter_root) if facts.snapshotter_root else None
        writer = SnapshotWriter(self._directory_writer(start, threads))
        verified = VerifiedTars(blobs, tars, self.containerd.content_root, DiskSpace(0))
        unpacker = Unpacker(
            self.client,
            self.snapshotter,
            threads=threads,
            space=SnapshotSpace(root, DiskSpace(0)),
            uncompressed_layers=None if way == "direct" else made,
            writing=Writing(writer, verified) if way == "written" else None,
        )
        try:
            if way == "written":
                writer.prove(WriterProof(self.client, self.snapshotter, writer, "airside"))
                assert writer.is_on, writer.why_not
            yield unpacker
            self.layers = dict(writer.counts)
        finally:
            unpacker.close()
            writer.close()

    @property
    def twins_directory(self) -> Path:
        return self.containerd.content_root / f".airside-twins-{self.name}"

    def finished(self, images: Sequence[Rootfs]) -> tuple[object, ...]:
        """What there is after a sweep, an unpack and the end of the lease."""
        with self.unpacker() as unpacker:
            unpacker.sweep()
            found = unpacker.unpack_all(images, lease=LEASE, stop=lambda: False)
            assert not [each for each in found if isinstance(each, Exception)]
            assert all(map(unpacker.is_unpacked, images))
        self.end()
        self.containerd.collect()
        assert not self.twins_directory.exists()
        return self.snapshots(), self.contents(), self.client.leases.list()

    def end(self) -> None:
        """Delete the lease, and have collected what only it held."""
        self.client.leases.delete(LEASE, sync=True)

    def ctr(self, *words: object) -> str:
        return self.containerd.did(*words, namespace=self.name)

    def import_with_ctr(self, path: Path, *flags: str) -> None:
        self.ctr("images", "import", *flags, "--snapshotter", self.snapshotter, path)

    # what it holds

    def snapshots(self) -> dict[str, dict[str, Any]]:
        """Each with its kind, parent and labels, asked apart from what unpacks."""
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=self.snapshotter)
        answer = snapshots_pb2.ListSnapshotsResponse
        socket, alone = self.containerd.socket, [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"unix://{socket}", options=alone) as channel:
            ask = channel.unary_stream(
                f"/{SNAPSHOTS}/List",
                request_serializer=snapshots_pb2.ListSnapshotsRequest.SerializeToString,
                response_deserializer=answer.FromString,
            )
            namespace = (("containerd-namespace", self.name),)
            found = [info for a in ask(request, LIMIT_SECONDS, namespace) for info in a.info]
        return {
            info.name: {
                "Kind": snapshots_pb2.Kind.Name(info.kind).capitalize(),
                "Parent": info.parent or None,
                "Labels": dict(info.labels) or None,
            }
            for info in found
        }

    def contents(self) -> dict[str, dict[str, str]]:
        """Each blob with its labels."""
        return {blob.digest: dict(blob.labels) for blob in self.client.content.list()}


@contextmanager
def namespace_of(containerd: Containerd, name: str, *, fresh: bool = True) -> Iterator[Namespace]:
    with Client.open(str(containerd.socket), name) as client:
        found = Namespace(containerd, client)
        if fresh:
            found.begin()
        yield found


def until_connected(client: Client) -> None:
    """Wait for a containerd that was started again."""

    def answers() -> bool:
        with suppress(ContainerdError):
            client.version()
            return True
        return False

    wait_until(answers)


def family(count: int, *, compression: str = "gzip", layer_bytes: int = 20_000) -> list[TestImage]:
    """Images on one base."""
    base = [random_layer(f"base/{n}", compression=compression) for n in range(2)]
    return [
        random_image(f"own/{n}", base=base, compression=compression, layer_bytes=layer_bytes)
        for n in range(count)
    ]


def archive_of(path: Path, image: TestImage, name: str) -> Path:
    write = docker_archive if "docker" in image.manifest.media_type else oci_archive
    write(path, {name: image})
    return path
