"""Writes layers into prepared snapshots ourselves, instead of containerd's Apply (ADR 0046).

Layers are written by us only where it is proved that the snapshotter's directories are the ones
seen here (`writer_proof`, `erofs.proof`); `why_not` says why they are not. How a layer is written
depends on the snapshotter (`directory_writer`, `erofs.layer_writer`). What is left to Apply raises
UnusualLayerError.
"""

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from airside.containerd.services.snapshots import Mount
from airside.containerd.verified_tars import Stop, VerifiedTar

log = logging.getLogger("airside.containerd")

WRITTEN, APPLIED = "airside", "containerd"
BY_SETTING = "unpack_by is containerd"


class Proof(Protocol):
    def run(self) -> str:
        """Returns why layers cannot be written here; "" if they can."""


class LayerWriter(Protocol):
    """Fills the snapshots of one kind of snapshotter. Thread-safe."""

    @property
    def is_durable(self) -> bool:
        """True if layers are synced when `write` and `sync` return."""

    def write(self, mounts: Sequence[Mount], tar: VerifiedTar, stop: Stop) -> None:
        """Writes a layer into a prepared snapshot. After an error the snapshot is to be removed.

        Raises UnusualLayerError: Apply shall write it. LayerRefusedError, StorageFullError,
        StoreError, StoppedError.
        """

    def sync(self, mounts: Sequence[Mount]) -> None:
        """Syncs what Apply wrote into a snapshot, if `is_durable`. Raises StoreError."""

    def close(self) -> None:
        """Ends running work."""


class SnapshotWriter:
    """Thread-safe. Close it."""

    def __init__(self, writer: LayerWriter) -> None:
        self._writer = writer
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.why_not = "it is not yet proved that containerd's snapshots can be written here"
        self.why_unusual = ""
        """Why the last layer was left to containerd's Apply, though layers are written by us."""

    @property
    def is_on(self) -> bool:
        return not self.why_not

    def prove(self, proof: Proof) -> None:
        """Sets `why_not` by a proof, and logs it. Raises ContainerdError if containerd is away."""
        self.why_not = proof.run()
        if self.why_not:
            log.warning("layers are unpacked by containerd, not by Airside: %s", self.why_not)

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of layers by who unpacked them: `airside`, `containerd`."""
        with self._lock:
            return dict(self._counts)

    def count(self, by: str, why: str = "") -> None:
        """Counts an unpacked layer; `why` it was left to containerd."""
        with self._lock:
            self._counts[by] += 1
            self.why_unusual = why or self.why_unusual

    @property
    def is_durable(self) -> bool:
        """True if layers are durable before their snapshots are committed, Apply's too."""
        return self.is_on and self._writer.is_durable

    def write(self, mounts: Sequence[Mount], tar: VerifiedTar, stop: Stop) -> None:
        """Writes a layer into a prepared snapshot, as `LayerWriter.write` does."""
        self._writer.write(mounts, tar, stop)

    def sync(self, mounts: Sequence[Mount]) -> None:
        """Syncs what Apply wrote into a snapshot, if `is_durable`. Raises StoreError."""
        if self.is_durable:
            self._writer.sync(mounts)

    def close(self) -> None:
        self._writer.close()
