"""Unpacking an image into snapshots, as containerd's own unpacker does (design 4.19).

Each chain ID is unpacked once, however many images share it; images go side by side. What a layer
unpacks to is compared with the config's diff ID before its snapshot is committed. Keys of ours
begin with `airside-`, so that what a crash left is found.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from airside.containerd.client import Client
from airside.errors import (
    AirsideError,
    ConflictError,
    ContainerdError,
    DigestMismatchError,
    ManifestInvalidError,
    StoppedError,
)
from airside.faults import fault
from airside.oci.digest import Digest
from airside.oci.model import Descriptor, Document, Manifest, parse_config

_TRIES = 3
_KEY = "airside-"
_REF_LABEL = "containerd.io/snapshot.ref"
_UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
_SNAPSHOT_LABEL = "containerd.io/gc.ref.snapshot."

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Rootfs:
    """What is to be unpacked: the layers of one manifest, lowest first, and their diff IDs."""

    config: Digest
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """The names of the snapshots (image-spec config.md, "Layer ChainID")."""
        return chain_ids_of(self.diff_ids)


def chain_ids_of(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    found: list[Digest] = []
    for diff_id in diff_ids:
        if found:
            text = f"{found[-1]} {diff_id}".encode()
            found.append(Digest("sha256", hashlib.sha256(text).hexdigest()))
        else:
            found.append(diff_id)
    return tuple(found)


def rootfs_of(manifest: Document, config_raw: bytes) -> Rootfs | str:
    """What to unpack of an image, or why it can't be."""
    assert isinstance(manifest.content, Manifest)
    layers = manifest.content.layers
    for reason in filter(None, map(_not_unpacked, layers)):
        return reason
    try:
        config = parse_config(config_raw, f"config {manifest.content.config.digest}")
    except ManifestInvalidError as exc:
        return exc.message
    if len(config.diff_ids) != len(layers):
        return f"it has {len(layers)} layers, and its config tells of {len(config.diff_ids)}"
    if not layers:
        return "it has no layers"
    return Rootfs(manifest.content.config.digest, layers, config.diff_ids)


def _not_unpacked(layer: Descriptor) -> str:
    """Why a layer can't be unpacked; empty for one that can."""
    if not layer.is_distributable:
        return f"its layer {layer.digest} is foreign: it is fetched from elsewhere"
    if layer.media_type.endswith("+encrypted"):
        return f"its layer {layer.digest} is encrypted"
    return "" if ".tar" in layer.media_type else f"its layer {layer.digest} is {layer.media_type}"


@dataclass(frozen=True, slots=True)
class _Step:
    """One layer of an image: the snapshot that it makes, and the one below."""

    layer: Descriptor
    diff_id: Digest
    name: str
    parent: str

    def check(self, applied: Digest) -> None:
        if applied != self.diff_id:
            raise DigestMismatchError(
                f"layer {self.layer.digest} unpacks to {applied}, the image's config says "
                f"{self.diff_id}: the image is damaged or was put together wrongly",
                blob=self.layer.digest,
                expected=self.diff_id,
                found=applied,
            )


class Unpacker:
    """Unpacks into one snapshotter. Thread-safe."""

    def __init__(self, client: Client, snapshotter: str, *, threads: int) -> None:
        self._client, self._snapshotter = client, snapshotter
        self._room = threading.Semaphore(threads)
        self._lock = threading.Lock()
        self._running: dict[str, Future[None]] = {}

    def close(self) -> None:
        """Nothing is held between calls."""

    def sweep(self) -> None:
        """Remove the snapshots that an interrupted run left unfinished."""
        for key in self._client.active_snapshots(self._snapshotter):
            if key.startswith(_KEY):
                self._client.remove_snapshot(self._snapshotter, key)

    def is_unpacked(self, rootfs: Rootfs) -> bool:
        return self._client.has_snapshot(self._snapshotter, str(rootfs.chain_ids[-1]))

    def unpack(self, rootfs: Rootfs, *, lease: str, stop: Stop) -> None:
        """Have all layers in snapshots; the config then holds the topmost.

        The blobs are in the namespace, held by the lease. Raises DigestMismatchError for a layer
        that is not what the config says, StoppedError, and what the client raises.
        """
        chain = [str(chain_id) for chain_id in rootfs.chain_ids]
        if not self.is_unpacked(rootfs):
            below = ["", *chain]
            for each in zip(rootfs.layers, rootfs.diff_ids, chain, below, strict=False):
                if stop():
                    raise StoppedError("unpacking was stopped")
                self._once(_Step(*each), lease)
        label = f"{_SNAPSHOT_LABEL}{self._snapshotter}"
        self._client.label_blob(rootfs.config, {label: chain[-1]})
        fault("unpack.after_label")

    def _once(self, step: _Step, lease: str) -> None:
        """Unpack a layer, or wait for the thread that does it and look again."""
        while True:
            with self._lock:
                running = self._running.get(step.name)
                if running is None:
                    mine = self._running[step.name] = Future()
                    break
            running.result()
        try:
            with self._room:
                self._unpack(step, lease)
        finally:
            with self._lock:
                del self._running[step.name]
            mine.set_result(None)

    def _unpack(self, step: _Step, lease: str) -> None:
        labels = {_REF_LABEL: step.name}
        for _ in range(_TRIES):
            if self._client.has_snapshot(self._snapshotter, step.name):
                return
            key = f"{_KEY}{uuid.uuid4().hex[:12]} {step.name}"
            try:
                mounts = self._client.prepare_snapshot(
                    self._snapshotter, key, step.parent, labels, lease
                )
            except ConflictError:
                continue
            try:
                fault("unpack.after_prepare")
                step.check(self._client.apply(step.layer, mounts, lease))
                fault("unpack.after_apply")
                # verified: said before the commit, as who finds the snapshot says nothing more
                self._client.label_blob(step.layer.digest, {_UNCOMPRESSED_LABEL: str(step.diff_id)})
                self._client.commit_snapshot(self._snapshotter, step.name, key, labels, lease)
            except ConflictError:
                self._client.remove_snapshot(self._snapshotter, key)  # somebody was faster
            except BaseException:
                with suppress(AirsideError):
                    self._client.remove_snapshot(self._snapshotter, key)
                raise
            fault("unpack.after_commit")
            return
        raise ContainerdError(
            f"the snapshot {step.name} can't be begun: it exists and is not there"
        )
