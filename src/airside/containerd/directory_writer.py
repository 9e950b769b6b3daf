"""Writes layers into snapshots that are directories, by confined worker processes (ADR 0046)."""

import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict

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

_BIG_BYTES = 32 * MIB
_PROCESSOR_SECONDS = 120
_SECONDS = 1800.0
_BYTES_PER_SECOND = MIB
"""The slowest writing that is waited for, beyond the seconds above."""
_MEMORY_BYTES = 256 * MIB


class DirectoryWriter:
    """Thread-safe. Close it.

    `most_big` is how many big layers are written at once; small ones do not wait for them.
    """

    is_durable = False

    def __init__(self, pool: WorkerPool, limits: LayerLimits, *, most_big: int) -> None:
        self._pool, self._limits = pool, asdict(limits)
        self._big = threading.Semaphore(most_big)

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

    def sync(self, mounts: Sequence[Mount]) -> None:
        """Does nothing: the file system is synced once for all layers (ADR 0021)."""

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
