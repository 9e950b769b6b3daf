"""Turns one layer into one committed snapshot: Prepare, Apply, Commit, and the races of each.

Works as containerd's own unpacker does (`core/unpack/unpacker.go`; in 1.6 `unpacker.go`), with the
same labels, so that CRI and `ctr` may unpack the same layer at the same moment:

- Prepare answers ALREADY_EXISTS: the snapshot exists, or the key is taken; then another key.
- Commit answers ALREADY_EXISTS: another unpacker was first; our prepared snapshot is removed.
- An existing snapshot is added to our lease, and looked up again after that.

One difference: the layer's `containerd.io/uncompressed` is written *before* the commit, since Apply
has proved it, so that no snapshot of ours exists without the label.

Our keys begin with our identity; keys that this process does not work on are swept.
"""

import contextlib
import itertools
import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from airside.containerd.client import Client
from airside.containerd.services.snapshots import Mount
from airside.containerd.snapshot_space import SnapshotSpace
from airside.containerd.uncompressed_layers import UncompressedLayer
from airside.core.errors import (
    AirsideError,
    ConflictError,
    ContainerdError,
    DiffIdMismatchError,
    NotFoundError,
)
from airside.core.failpoints import fault
from airside.oci.chain import Step
from airside.oci.digest import Digest

Stop = Callable[[], bool]
UncompressedOf = Callable[[], UncompressedLayer | None]
"""Returns the layer uncompressed, None if containerd shall decompress it."""

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
    ) -> None:
        self._client, self._snapshotter = client, snapshotter
        self._prefix = f"{identity}-"
        self._space = space
        self._process = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._live: set[str] = set()
        self._lock = threading.Lock()

    def has(self, chain: Digest) -> bool:
        return self._client.snapshots.has(self._snapshotter, str(chain))

    def hold(self, chain: Digest, lease: str) -> None:
        """Adds an existing snapshot to the lease. Raises NotFoundError if it is gone."""
        self._client.leases.add_snapshot(lease, self._snapshotter, str(chain))
        if not self.has(chain):
            raise NotFoundError(f"snapshot {chain} was removed", blob=chain)

    def add(self, step: Step, lease: str, stop: Stop, uncompressed_of: UncompressedOf) -> bool:
        """Makes the layer's snapshot. Returns True if it was made now, False if it existed.

        Raises DiffIdMismatchError, StorageFullError, StoppedError, ContainerdError, and
        NotFoundError if the lease, the parent or the layer is gone.
        """
        for _ in range(_TRIES):
            key = self._new_key(step.chain)
            try:
                mounts = self._prepare(key, step, lease)
                if mounts is not None:
                    return self._finish(key, mounts, step, lease, stop, uncompressed_of)
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

    def mend(self, step: Step, lease: str, stop: Stop, uncompressed_of: UncompressedOf) -> None:
        """Rewrites the files of a committed snapshot that is in use.

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
            self._fill([mount], step, lease, stop, uncompressed_of())
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
        self,
        key: str,
        mounts: Sequence[Mount],
        step: Step,
        lease: str,
        stop: Stop,
        uncompressed_of: UncompressedOf,
    ) -> bool:
        """Fills and commits a prepared snapshot; removes it after any error."""
        try:
            fault("unpack.after_prepare")
            self._fill(mounts, step, lease, stop, uncompressed_of())
            self._commit(key, step, lease)
        except ConflictError:
            self._remove(key)
            self.hold(step.chain, lease)
            return False
        except BaseException:
            self._remove(key)
            raise
        return True

    def _fill(
        self,
        mounts: Sequence[Mount],
        step: Step,
        lease: str,
        stop: Stop,
        uncompressed: UncompressedLayer | None,
    ) -> None:
        with self._space.unpacking(step.layer, uncompressed, stop) as watch:
            found = self._applied(mounts, step, lease, watch, uncompressed)
        fault("unpack.after_apply")
        if found != step.diff_id:
            raise DiffIdMismatchError(
                f"layer {step.layer.digest} unpacks to {found}, but the image's config says "
                f"{step.diff_id}: build or save the image again",
                blob=step.layer.digest,
                expected=step.diff_id,
                found=found,
            )
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
