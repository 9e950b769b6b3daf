"""Writes layers into prepared snapshots of erofs ourselves, instead of containerd's Apply.

What always holds: the tar behind an index is the open file whose bytes were hashed; nothing is
written but `layer.erofs` of a fresh snapshot; and it is durable before the snapshot is committed,
since containerd cannot remove a committed snapshot without that file.

What is unusual raises UnusualLayerError and leaves the snapshot to be removed: containerd's differ
makes the layer then, or says what is wrong with it.
"""

import errno
import os
import threading
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from airside.containerd.erofs.layer_file import write_layer
from airside.containerd.erofs.platform import Mkfs
from airside.containerd.erofs.snapshot_directory import (
    LAYER,
    directory_of,
    lower_layers,
    open_fresh,
)
from airside.containerd.erofs.tar_index import IndexLimits, make_index
from airside.containerd.erofs.tar_members import check_members
from airside.containerd.erofs.unlisted_directories import mend_directories
from airside.containerd.services.snapshots import Mount
from airside.containerd.verified_tars import Stop, VerifiedTar
from airside.core.errors import StorageFullError, StoreError, UnusualLayerError
from airside.store.filesystem import sync_directory, sync_file

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class ErofsLayerWriter:
    """Thread-safe. `mkfs` None: it refuses all layers."""

    is_durable = True

    def __init__(self, mkfs: Mkfs | None, limits: IndexLimits | None = None) -> None:
        self._mkfs, self._limits = mkfs, limits or IndexLimits()
        self._ways: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def ways(self) -> Mapping[str, int]:
        """The number of layers by the way of their bytes: `clone` or `copy`."""
        with self._lock:
            return dict(self._ways)

    def write(self, mounts: Sequence[Mount], tar: VerifiedTar, stop: Stop) -> None:
        """Writes a layer into a prepared snapshot. After an error the snapshot is to be removed.

        Raises UnusualLayerError: Apply shall write it. LayerRefusedError, StorageFullError,
        StoreError, StoppedError.
        """
        if self._mkfs is None:
            raise UnusualLayerError("there is no mkfs.erofs")
        directory = directory_of(mounts)
        number = open_fresh(directory)
        try:
            check_members(tar.file, most=self._limits.members)
            name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"erofs:blobs/{tar.digest}"))
            index = make_index(self._mkfs.path, tar.file, name, self._limits, stop)
            mend_directories(index, lower_layers(mounts), stop)
            way = write_layer(number, index, tar.file, stop)
            sync_snapshot(directory)
        except OSError as exc:
            raise _error(directory, exc) from exc
        finally:
            os.close(number)
        with self._lock:
            self._ways[way] += 1

    def sync(self, mounts: Sequence[Mount]) -> None:
        """Syncs the layer that containerd's differ wrote. Raises StoreError.

        UnusualLayerError: the snapshot is not where one of erofs is.
        """
        directory = directory_of(mounts)
        try:
            sync_file(Path(directory, LAYER))
            sync_snapshot(directory)
        except OSError as exc:
            raise _error(directory, exc) from exc

    def close(self) -> None:
        """Does nothing: no process is kept."""


def sync_snapshot(directory: str) -> None:
    """Makes the names of a snapshot's files durable. Raises OSError."""
    sync_directory(Path(directory))
    sync_directory(Path(directory).parent)


def _error(directory: str, exc: OSError) -> StoreError:
    text = f"cannot write a layer into {directory}: {exc.strerror}"
    return StorageFullError(text) if exc.errno in _FULL else StoreError(text, path=directory)
