"""A containerd in memory, as far as unpacking asks: snapshots, labels, leases, Apply.

`before` has what shall happen before a call: a race, or a failure. `fail_after` cuts the line.
"""

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airside.archive.tar.compression import Compression, detect_compression
from airside.containerd.services.content import BlobInfo
from airside.containerd.services.snapshots import Mount
from airside.core.errors import ConflictError, ContainerdError, NotFoundError
from airside.oci.chain import Rootfs, rootfs_of
from airside.oci.digest import Digest
from airside.oci.model import Descriptor, parse_document
from support.images import TestImage, sha256, zstd

LEASE = "lease"


@dataclass
class Snapshot:
    parent: str
    labels: Mapping[str, str]
    committed: bool = False
    diff: Digest | None = None
    view: bool = False


def rootfs(image: TestImage) -> Rootfs:
    manifest = parse_document(image.manifest.raw, image.manifest.media_type, "the manifest")
    return rootfs_of(manifest, image.config.raw)


@dataclass
class FakeContainerd:
    """Answers the calls of unpacking as containerd does; `client` is what makes them."""

    content_root: Path | None = None
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    leases: dict[str, set[str]] = field(default_factory=lambda: {LEASE: set()})
    before: dict[str, Callable[..., None]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    applied: list[Descriptor] = field(default_factory=list)
    applying: int = 0
    most_applying: int = 0
    lock: Any = field(default_factory=threading.RLock)

    @property
    def client(self) -> Any:
        """The services of `Client` that unpacking calls."""
        return SimpleNamespace(
            content=SimpleNamespace(
                info=self.blob,
                label=self.label_blob,
                adopt=self.adopt_blob,
                abort=self.abort_write,
                delete=self.delete_blob,
            ),
            diff=SimpleNamespace(apply=self.apply),
            leases=SimpleNamespace(add_snapshot=self.add_snapshot_to_lease),
            snapshots=SimpleNamespace(
                has=self.has_snapshot,
                list_active=self.active_snapshots,
                prepare=self.prepare_snapshot,
                view=self.view_snapshot,
                commit=self.commit_snapshot,
                remove=self.remove_snapshot,
            ),
        )

    def hold(self, image: TestImage) -> Rootfs:
        for blob in image.blobs:
            self.contents[str(blob.digest)] = blob.raw
            self.labels.setdefault(str(blob.digest), {})
        return rootfs(image)

    def _enter(self, name: str, *args: Any) -> None:
        with self.lock:
            self.calls[name] += 1
        if name in self.before:
            self.before[name](*args)

    def _lease(self, lease: str, key: str) -> None:
        if lease not in self.leases:
            raise NotFoundError(f'lease "{lease}": not found')
        self.leases[lease].add(key)

    def held_by(self, lease: str) -> set[str]:
        """The snapshots that a collection would leave if there were only this lease."""
        held: set[str] = set()
        for key in self.leases[lease] & set(self.snapshots):
            below = key
            while below and below not in held:
                held.add(below)
                below = self.snapshots[below].parent
        return held

    def blob(self, digest: Digest) -> BlobInfo | None:
        raw = self.contents.get(str(digest))
        return raw and BlobInfo(str(digest), len(raw), dict(self.labels[str(digest)]))

    def label_blob(self, digest: Digest, labels: Mapping[str, str]) -> None:
        self._enter("label_blob", digest, labels)
        if str(digest) not in self.contents:
            raise NotFoundError(f"content {digest}: not found")
        self.labels[str(digest)].update(labels)

    def adopt_blob(self, key, digest, size_bytes, labels, lease) -> None:
        self._enter("adopt_blob", key, digest)
        path = self.content_root / "blobs/sha256" / digest.hex
        if not path.exists() or path.stat().st_size != size_bytes:
            raise ContainerdError("must occur at current offset 0", status="OUT_OF_RANGE")
        if lease:
            self._lease(lease, str(digest))
        self.contents[str(digest)] = b""
        self.labels[str(digest)] = dict(labels)

    def abort_write(self, key: str) -> None:
        self._enter("abort_write", key)

    def delete_blob(self, digest: Digest) -> None:
        self._enter("delete_blob", digest)
        self.contents.pop(str(digest), None)

    def add_snapshot_to_lease(self, lease: str, _snapshotter: str, key: str) -> None:
        self._enter("add_snapshot_to_lease", key)
        self._lease(lease, key)

    def has_snapshot(self, _snapshotter: str, key: str) -> bool:
        self._enter("has_snapshot", key)
        return key in self.snapshots and self.snapshots[key].committed

    def active_snapshots(self, _snapshotter: str) -> list[str]:
        return [key for key, each in self.snapshots.items() if not each.committed and not each.view]

    def prepare_snapshot(
        self, _snapshotter: str, key: str, parent: str, labels: Mapping[str, str], lease: str
    ) -> list[Mount]:
        self._enter("prepare_snapshot", key)
        with self.lock:
            if labels["containerd.io/snapshot.ref"] in self.snapshots or key in self.snapshots:
                raise ConflictError("already exists")
            if parent and parent not in self.snapshots:
                raise NotFoundError(f"parent snapshot {parent}: not found")
            self._lease(lease, key)
            self.snapshots[key] = Snapshot(parent, dict(labels))
        return [Mount("bind", key, "", ())]

    def view_snapshot(self, _snapshotter: str, key: str, parent: str, lease: str) -> list[Mount]:
        self._enter("view_snapshot", key)
        with self.lock:
            if parent not in self.snapshots:
                raise NotFoundError(f"snapshot {parent}: not found")
            self._lease(lease, key)
            self.snapshots[key] = Snapshot(parent, {}, view=True)
        return [Mount("bind", parent, "", ("ro", "rbind"))]

    def apply(
        self,
        layer: Descriptor,
        mounts: Iterable[Mount],
        lease: str,
        *,
        stop: Callable[[], bool],
    ) -> Digest:
        with self.lock:
            self.applying += 1
            self.most_applying = max(self.applying, self.most_applying)
            self.applied.append(layer)
        try:
            self._enter("apply", layer, stop)
            [mount] = mounts
            if lease not in self.leases or str(layer.digest) not in self.contents:
                raise NotFoundError("not found")
            found = sha256(_tar_of(self._bytes(layer)))
            self.snapshots[mount.source].diff = found
            return found
        finally:
            with self.lock:
                self.applying -= 1

    def _bytes(self, layer: Descriptor) -> bytes:
        raw = self.contents[str(layer.digest)]
        if raw or self.content_root is None:
            return raw
        return (self.content_root / "blobs/sha256" / layer.digest.hex).read_bytes()

    def commit_snapshot(
        self, _snapshotter: str, name: str, key: str, labels: Mapping[str, str], lease: str
    ) -> None:
        self._enter("commit_snapshot", name, key)
        with self.lock:
            if name in self.snapshots:
                raise ConflictError("already exists")
            self._lease(lease, name)
            made = self.snapshots.pop(key)
            made.committed, made.labels = True, dict(labels)
            self.snapshots[name] = made

    def remove_snapshot(self, _snapshotter: str, key: str) -> None:
        self._enter("remove_snapshot", key)
        with self.lock:
            if any(each.parent == key for each in self.snapshots.values()):
                raise ContainerdError("it has children", status="FAILED_PRECONDITION")
            self.snapshots.pop(key, None)


def _tar_of(raw: bytes) -> bytes:
    compression = detect_compression(raw[:16])
    if compression is Compression.GZIP:
        return gzip.decompress(raw)
    return zstd.decompress(raw) if compression is Compression.ZSTD else raw
