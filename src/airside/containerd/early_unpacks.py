"""Unpacks layers of several archives while they are read, in one connected containerd (ADR 0047).

Left to others: one archive (`early_archive`), and writing a layer (`unpack_layer`).
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from airside.containerd.early_archive import EarlyArchive, EarlyMeans
from airside.containerd.layer_footprint import LayerFootprints
from airside.containerd.layer_tars import LayerTars
from airside.containerd.unpack import Unpacker
from airside.containerd.verified_tars import Stop, VerifiedTar, VerifiedTars
from airside.core.disk_space import DiskSpace
from airside.oci.chain import Step
from airside.oci.digest import Digest
from airside.ports.early_layers import VerifiedLayer

_BUSY_LOAD = 2.0
"""Load average for each processor above which no processor idles while an archive is read."""


def is_busy() -> bool:
    """Returns True if unpacking early would only slow down the reading (measured: ADR 0047)."""
    return os.getloadavg()[0] > _BUSY_LOAD * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class EarlyTars:
    """Opens layers of archives that are being read. `directory` is for decompressed tars."""

    tars: LayerTars
    directory: Path
    space: DiskSpace
    footprints: LayerFootprints | None = None

    def open(self, step: Step, layer: VerifiedLayer, stop: Stop) -> VerifiedTar:
        """Raises as `VerifiedTars.open`."""
        tars = replace(self.tars, open_blob=lambda _digest: layer.open())
        store = _Verified(layer)
        return VerifiedTars(store, tars, self.directory, self.space, self.footprints).open(
            step, stop
        )


@dataclass(frozen=True, slots=True)
class _Verified:
    """A store of one layer, whose bytes this import has hashed."""

    layer: VerifiedLayer

    def open(self, _digest: Digest) -> BinaryIO:
        return self.layer.open()

    def is_right(self, _digest: Digest) -> bool:
        return True

    def is_fresh(self, _digest: Digest, _file: BinaryIO | None = None) -> bool:
        return True


class EarlyUnpacks:
    """Implements `EarlyUnpacking`. Thread-safe."""

    def __init__(
        self, unpacker: Unpacker, identity: str, tars: EarlyTars, writes: Callable[[], bool]
    ) -> None:
        self._means: EarlyMeans = unpacker.early_means(identity, tars.open, lambda: self._passes)
        self._writes = writes
        self._archives: list[EarlyArchive] = []
        self._passes = 0
        self._is_ours = False
        self._lock = threading.Lock()

    def begin(self) -> EarlyArchive | None:
        if not self._is_ours or not self._writes() or is_busy():
            return None
        archive = EarlyArchive(self._means, self._ended)
        with self._lock:
            self._archives.append(archive)
        return archive

    def _ended(self, archive: EarlyArchive) -> None:
        with self._lock:
            self._archives.remove(archive)

    def pass_begins(self, *, is_ours: bool) -> None:
        """A pass of the publisher begins; `is_ours`: no other agent has the runtime."""
        with self._lock:
            self._passes += 1
            self._is_ours = is_ours

    def pass_ended(self) -> None:
        """Ends the archives whose import the pass knew: what it did not publish goes."""
        with self._lock:
            known = [a for a in self._archives if 0 <= a.kept_at < self._passes]
        for archive in known:
            archive.end()

    def published(self, top: Digest) -> None:
        """An image with this top chain was published durably."""
        with self._lock:
            archives = list(self._archives)
        for archive in archives:
            archive.published(top)
