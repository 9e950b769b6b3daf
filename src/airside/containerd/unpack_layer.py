"""Turns one layer into one committed snapshot: Prepare, write, Commit, and the races of each.

We write the layer ourselves where that is proved to work (`snapshot_writer`); else, and what is
unusual in a layer, containerd's Apply does.

Works as containerd's own unpacker does (`core/unpack/unpacker.go`; in 1.6 `unpacker.go`), with the
same labels, so that CRI and `ctr` may unpack the same layer at the same moment:

- Prepare answers ALREADY_EXISTS: the snapshot exists, or the key is taken; then another key.
- Commit answers ALREADY_EXISTS: another unpacker was first; our prepared snapshot is removed.
- An existing snapshot is added to our lease, and looked up again after that.

One difference: the layer's `containerd.io/uncompressed` is written *before* the commit, since its
bytes have proved it by then, so that no snapshot of ours exists without the label. Only a layer
that is unpacked while its archive is read gets it later, with its blob (`label_early`).

Our keys begin with our identity; keys that this process does not work on are swept.
"""

import contextlib
import itertools
import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from airside.containerd.client import Client
from airside.containerd.services.snapshots import Mount
from airside.containerd.snapshot_space import SnapshotSpace
from airside.containerd.snapshot_writer import APPLIED, WRITTEN, SnapshotWriter
from airside.containerd.uncompressed_layers import UncompressedLayer
from airside.containerd.verified_tars import VerifiedTar, mismatch
from airside.core.errors import (
    AirsideError,
    ConflictError,
    ContainerdError,
    NotFoundError,
    UnusualLayerError,
)
from airside.core.failpoints import fault
from airside.oci.chain import Step
from airside.oci.digest import Digest

Stop = Callable[[], bool]
Fill = Callable[[Sequence[Mount]], None]
"""Writes a layer into the mounts of a prepared snapshot."""
OpenVerified = Callable[[], VerifiedTar]
"""Opens a layer's tar. Raises UnusualLayerError, DiffIdMismatchError, StoppedError."""


class LayerSource(Protocol):
    """Where the bytes of one layer come from. Asked only when a snapshot is prepared for them."""

    def tar(self) -> VerifiedTar:
        """Opens the tar, to be closed. Raises what `OpenVerified` raises."""

    def uncompressed(self) -> UncompressedLayer | None:
        """Returns the layer uncompressed for Apply, None if containerd shall decompress it."""


log = logging.getLogger("airside.containerd")

OVERLAYFS = "overlayfs"
SNAPSHOT_REF = "containerd.io/snapshot.ref"
UNCOMPRESSED = "containerd.io/uncompressed"
_INHERITED = "containerd.io/snapshot/"
_LABEL_BYTES = 4096
"""A label's key and value together (containerd's `labels/validate.go`)."""
_TRIES = 3


class LayerUnpacker:
    """Adds layers to one snapshotter. Thread-safe; one thread at a time per chain ID."""

    def __init__(
        self,
        client: Client,
        snapshotter: str,
        *,
        identity: str,
        space: SnapshotSpace,
        writer: SnapshotWriter | None = None,
    ) -> None:
        self._client, self._snapshotter, self._writer = client, snapshotter, writer
        self._prefix = f"{identity}-"
        self._space = space
        self._process = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._live: set[str] = set()
        self._unlabelled: set[Digest] = set()
        """Chain IDs of layers that `write` made, whose blobs have no label of that yet."""
        self._lock = threading.Lock()

    def has(self, chain: Digest) -> bool:
        return self._client.snapshots.has(self._snapshotter, str(chain))

    def hold(self, chain: Digest, lease: str) -> None:
        """Adds an existing snapshot to the lease. Raises NotFoundError if it is gone."""
        self._client.leases.add_snapshot(lease, self._snapshotter, str(chain))
        if not self.has(chain):
            raise NotFoundError(f"snapshot {chain} was removed", blob=chain)

    @property
    def writes(self) -> bool:
        """True if layers are written by us, what is unusual aside."""
        return self._writer is not None and self._writer.is_on

    @property
    def is_durable(self) -> bool:
        """True if each layer is durable before its snapshot is committed."""
        return self._writer is not None and self._writer.is_durable

    def add(self, step: Step, lease: str, stop: Stop, source: LayerSource) -> bool:
        """Makes the layer's snapshot. Returns True if it was made now, False if it existed.

        The layer's blob is in the content store. Raises DiffIdMismatchError, LayerRefusedError,
        StorageFullError, StoreError, StoppedError, ContainerdError, and NotFoundError if the lease,
        the parent or the layer is gone.
        """
        why = ""
        if self.writes:
            try:
                return self._make(step, lease, self._writing(step, stop, source.tar, label=True))
            except UnusualLayerError as exc:  # its snapshot is removed
                why = exc.message
                log.debug("layer %s is left to containerd: %s", step.layer.digest, why)

        def apply(mounts: Sequence[Mount]) -> None:
            self._apply(mounts, step, lease, stop, source.uncompressed())
            if self._writer is not None:
                self._writer.sync(mounts)

        made = self._make(step, lease, apply)
        if made and self._writer is not None:
            self._writer.count(APPLIED, why)
        return made

    def write(self, step: Step, lease: str, stop: Stop, tar: OpenVerified) -> bool:
        """Makes the layer's snapshot without its blob, which may not be in the content store yet.

        Sets no label of the blob. Returns and raises what `add` does, and UnusualLayerError:
        nothing was made, and `add` is to be called when the blob is there.
        """
        if not self.writes:
            raise UnusualLayerError("layers are unpacked by containerd")
        made = self._make(step, lease, self._writing(step, stop, tar, label=False))
        if made:
            with self._lock:
                self._unlabelled.add(step.chain)
        return made

    def label_early(self, steps: Iterable[Step]) -> None:
        """Labels the blobs of layers that `write` made, as `add` does; they are stored by now."""
        for step in steps:
            with self._lock:
                is_early = step.chain in self._unlabelled
            if is_early:
                self._client.content.label(step.layer.digest, {UNCOMPRESSED: str(step.diff_id)})
                with self._lock:
                    self._unlabelled.discard(step.chain)

    def _make(self, step: Step, lease: str, fill: Fill) -> bool:
        for _ in range(_TRIES):
            key = self._new_key(step.chain)
            try:
                mounts = self._prepare(key, step, lease)
                if mounts is not None:
                    return self._finish(key, mounts, step, lease, fill)
                if self.has(step.chain):
                    self.hold(step.chain, lease)
                    return False
            finally:
                with self._lock:
                    self._live.discard(key)
        raise ContainerdError(
            f"containerd prepared no snapshot for {step.chain} in {_TRIES} tries", blob=step.chain
        )

    def discard(self, chain: Digest) -> bool:
        """Removes a committed snapshot. Returns False if a child or a container holds it.

        Raises ContainerdError if containerd is away.
        """
        try:
            self._client.snapshots.remove(self._snapshotter, str(chain))
        except ContainerdError as exc:
            if exc.is_away:
                raise
            return False
        return True

    def mend(self, step: Step, lease: str, stop: Stop, source: LayerSource) -> None:
        """Rewrites the files of a committed snapshot that is in use, by containerd's Apply.

        Apply replaces each file by a new one: a running container keeps its open files, and the
        next container sees the right ones. Raises what `add` raises, and ContainerdError for a
        snapshotter whose snapshots hold copies of their parents.
        """
        if self._snapshotter != OVERLAYFS:
            raise ContainerdError(
                f"snapshot {step.chain} may be damaged and is in use: remove its containers",
                blob=step.chain,
            )
        key = self._new_key(step.chain)
        try:
            shown = self._client.snapshots.view(self._snapshotter, key, str(step.chain), lease)
            mount = writable(shown)
            _drop_whiteouts(mount)
            self._apply([mount], step, lease, stop, source.uncompressed())
        finally:
            self._remove(key)
            with self._lock:
                self._live.discard(key)
        log.info("rewrote snapshot %s, which a power cut may have damaged", step.chain)

    def _new_key(self, chain: Digest) -> str:
        key = f"{self._prefix}{self._process}-{next(self._numbers)} {chain}"
        with self._lock:
            self._live.add(key)
        return key

    def _prepare(self, key: str, step: Step, lease: str) -> Sequence[Mount] | None:
        parent = str(step.parent) if step.parent else ""
        labels = snapshot_labels(step)
        try:
            return self._client.snapshots.prepare(self._snapshotter, key, parent, labels, lease)
        except ConflictError:
            return None

    def _finish(
        self, key: str, mounts: Sequence[Mount], step: Step, lease: str, fill: Fill
    ) -> bool:
        """Fills and commits a prepared snapshot; removes it after any error."""
        try:
            fault("unpack.after_prepare")
            fill(mounts)
            self._commit(key, step, lease)
        except ConflictError:
            self._remove(key)
            self.hold(step.chain, lease)
            return False
        except BaseException:
            self._remove(key)
            raise
        return True

    def _writing(self, step: Step, stop: Stop, tar: OpenVerified, *, label: bool) -> Fill:
        """Returns what writes a layer by our own writer."""
        writer = self._writer
        assert writer is not None

        def write(mounts: Sequence[Mount]) -> None:
            with contextlib.closing(tar()) as opened:
                with self._space.writing(step.layer, opened.footprint_bytes, stop) as watch:
                    try:
                        writer.write(mounts, opened, _passing(watch))
                    except AirsideError as exc:
                        exc.add_context(blob=step.layer.digest)
                        raise
                self._check(step, opened.digest, label=label)
            writer.count(WRITTEN)

        return write

    def _apply(
        self,
        mounts: Sequence[Mount],
        step: Step,
        lease: str,
        stop: Stop,
        uncompressed: UncompressedLayer | None,
    ) -> None:
        with self._space.unpacking(step.layer, uncompressed, stop) as watch:
            found = self._applied(mounts, step, lease, watch, uncompressed)
        self._check(step, found, label=True)

    def _check(self, step: Step, found: Digest, *, label: bool) -> None:
        """Raises DiffIdMismatchError if what was unpacked is another tar; else labels the blob."""
        fault("unpack.after_apply")
        if found != step.diff_id:
            raise mismatch(step, found)
        if label:
            self._client.content.label(step.layer.digest, {UNCOMPRESSED: str(step.diff_id)})
        fault("unpack.after_label")

    def _applied(
        self,
        mounts: Sequence[Mount],
        step: Step,
        lease: str,
        stop: Stop,
        uncompressed: UncompressedLayer | None,
    ) -> Digest:
        """Applies the layer, uncompressed if possible. Returns the digest of its tar."""
        try:
            if uncompressed is not None:
                with contextlib.suppress(NotFoundError):  # its lease ended: apply the layer itself
                    descriptor = uncompressed.descriptor
                    return self._client.diff.apply(descriptor, mounts, lease, stop=stop)
            return self._client.diff.apply(step.layer, mounts, lease, stop=stop)
        except AirsideError as exc:
            exc.add_context(blob=step.layer.digest)
            raise

    def _commit(self, key: str, step: Step, lease: str) -> None:
        labels = snapshot_labels(step)
        self._client.snapshots.commit(self._snapshotter, str(step.chain), key, labels, lease)
        fault("unpack.after_commit")

    def _remove(self, key: str) -> None:
        with contextlib.suppress(AirsideError):  # what stays is swept
            self._client.snapshots.remove(self._snapshotter, key)

    def sweep(self) -> int:
        """Removes what earlier processes prepared and did not commit. Returns how many."""
        active = self._client.snapshots.list_active(self._snapshotter)
        keys = [k for k in active if k.startswith(self._prefix) and " sha256:" in k]
        with self._lock:
            left = [key for key in keys if key not in self._live]
        for key in left:
            self._client.snapshots.remove(self._snapshotter, key)
        return len(left)


def _passing(stop: Stop) -> Stop:
    """Returns a `stop` that passes a fault point: it is asked while the layer is written."""

    def asked() -> bool:
        fault("unpack.in_write")
        return stop()

    return asked


def writable(shown: Sequence[Mount]) -> Mount:
    """Returns the mount by which Apply writes into a snapshot of overlayfs that is shown read-only.

    Apply does not mount an overlay but writes into its upper directory.
    """
    [mount] = shown
    if mount.type != "overlay":
        return replace(mount, options=tuple("rw" if o == "ro" else o for o in mount.options))
    prefix = "lowerdir="
    lower = next((o.removeprefix(prefix) for o in mount.options if o.startswith(prefix)), "")
    upper, _, below = lower.partition(":")
    if not below:
        raise ContainerdError(
            f"containerd mounts an overlay without two lower directories: {mount.options}"
        )
    return replace(mount, options=(f"upperdir={upper}", f"{prefix}{below}"))


def _drop_whiteouts(mount: Mount) -> None:
    """Deletes whiteouts: Apply fails to make one that exists. Follows no link.

    Only the files of this snapshot are looked at.
    """
    upper = [o.removeprefix("upperdir=") for o in mount.options if o.startswith("upperdir=")]
    for directory, _, names in os.walk(upper[0] if upper else mount.source):
        for path in (Path(directory, name) for name in names):
            found = path.lstat()
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                path.unlink()


def snapshot_labels(step: Step) -> Mapping[str, str]:
    """Returns the labels for Prepare and Commit: the chain ID, and inherited annotations."""
    inherited = {
        key: value
        for key, value in step.layer.annotations.items()
        if key.startswith(_INHERITED) and len(key) + len(value) <= _LABEL_BYTES
    }
    return inherited | {SNAPSHOT_REF: str(step.chain)}
