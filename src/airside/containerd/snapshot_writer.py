"""Writes layers into prepared snapshots ourselves, instead of containerd's Apply (ADR 0046).

A confined worker process writes (`layer_writer`). Layers are written by us only where it is proved
that the snapshotter's directories are the ones seen here (`writer_proof`); `why_not` says why they
are not. What the writer leaves to Apply raises UnusualLayerError.
"""

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Protocol

from airside.containerd.layer_writer.messages import Outcome, Reply, Request
from airside.containerd.layer_writer.snapshot_directories import directories_of
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.services.snapshots import Mount
from airside.containerd.verified_tars import Stop, VerifiedTar
from airside.core.errors import (
    LayerRefusedError,
    StorageFullError,
    StoreError,
    UnusualLayerError,
)
from airside.core.settings import MIB

log = logging.getLogger("airside.containerd")

WRITTEN, APPLIED = "airside", "containerd"
BY_SETTING = "unpack_by is containerd"
_BIG_BYTES = 32 * MIB
_PROCESSOR_SECONDS = 120
_SECONDS = 1800.0
_BYTES_PER_SECOND = MIB
"""The slowest writing that is waited for, beyond the seconds above."""
_MEMORY_BYTES = 256 * MIB


class Proof(Protocol):
    def run(self) -> str:
        """Returns why layers cannot be written here; "" if they can."""


class SnapshotWriter:
    """Thread-safe. Close it.

    `most_big` is how many big layers are written at once; small ones do not wait for them.
    """

    def __init__(self, pool: WorkerPool, limits: LayerLimits, *, most_big: int) -> None:
        self._pool, self._limits = pool, asdict(limits)
        self._big = threading.Semaphore(most_big)
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

    def write(self, mounts: Sequence[Mount], tar: VerifiedTar, stop: Stop) -> None:
        """Writes a layer into a prepared snapshot. After an error the snapshot is to be removed.

        Raises UnusualLayerError: Apply shall write it. LayerRefusedError, StorageFullError,
        StoreError, StoppedError.
        """
        number = tar.file.fileno()
        size_bytes = tar.file.seek(0, 2)
        directories = directories_of(mounts)
        request = Request(
            directories.whiteouts.name,
            self._limits,
            processor_seconds=_PROCESSOR_SECONDS + size_bytes // (4 * MIB),
            memory_bytes=size_bytes + _MEMORY_BYTES,
            file_bytes=self._limits["content_bytes"],
        )
        seconds = _SECONDS + size_bytes / _BYTES_PER_SECOND
        lane: AbstractContextManager[object] = (
            self._big if size_bytes >= _BIG_BYTES else nullcontext()
        )
        with lane, directories.opened() as numbers:
            try:
                with self._pool.worker() as worker:
                    reply = worker.write(request, [number, *numbers], stop, seconds)
            except OSError as exc:
                reply = Reply(Outcome.FAILED, f"no process can be started: {exc.strerror}")
        _check(reply)

    def close(self) -> None:
        self._pool.close()


def _check(reply: Reply) -> None:
    """Raises the error that a reply tells."""
    outcome, text = reply.outcome, reply.text
    if outcome is Outcome.WRITTEN:
        return
    if outcome in {Outcome.REFUSED, Outcome.BEYOND}:
        raise LayerRefusedError(text)
    if outcome is Outcome.FULL:
        raise StorageFullError(text)
    if outcome is Outcome.DISK:
        raise StoreError(text)
    if outcome is Outcome.BUG:
        log.error("a defect of Airside: a layer is left to containerd:\n%s", text)
        raise UnusualLayerError("a defect of Airside")
    if outcome is Outcome.FAILED:
        log.warning("a layer is left to containerd: %s", text)
    raise UnusualLayerError(text)
