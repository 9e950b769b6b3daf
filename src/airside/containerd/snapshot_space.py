"""Keeps `min_free_bytes` free where containerd writes for us: while it unpacks, pulls, receives.

Two things hold it. What a layer takes is measured before (`layer_footprint`) and granted, so that
concurrent writers leave it that space. And the free space is looked at while containerd writes:
what takes more than its grant is cancelled well before the floor.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from airside.containerd.layer_footprint import LayerFootprints
from airside.containerd.uncompressed_layers import UncompressedLayer
from airside.core.disk_space import DiskSpace, Grant
from airside.core.errors import StoppedError, StorageFullError
from airside.core.logs import human_bytes
from airside.core.settings import GIB, MIB
from airside.oci.chain import is_compressed
from airside.oci.digest import Digest
from airside.oci.model import Descriptor

Stop = Callable[[], bool]

GUARD_BYTES = 48 * MIB
"""Room at which what is not granted is cancelled: more than is written between two looks."""
_AMPLE_BYTES = 8 * GIB
_AMPLE_RATIO = 16
"""A compressed layer is not measured where there is ample room: that decompresses it once more."""

log = logging.getLogger("airside.containerd")


class SnapshotSpace:
    """The file system of one snapshotter's directory `root`; None: unknown, nothing is checked.

    Thread-safe.
    """

    def __init__(
        self, root: Path | None, space: DiskSpace, footprints: LayerFootprints | None = None
    ) -> None:
        self.root, self._space, self._footprints = root, space, footprints
        self._surprising: set[Digest] = set()
        """Layers that took more than was granted: they are measured from now on."""

    @contextlib.contextmanager
    def unpacking(
        self, layer: Descriptor, uncompressed: UncompressedLayer | None, stop: Stop
    ) -> Iterator[Stop]:
        """Grants the space of a layer. Yields what stops its unpacking: `stop`, or a lack of space.

        Raises StorageFullError, also for the StoppedError that the lack of space caused.
        """
        with self._granted(layer, stop, partial(self._needed, layer, uncompressed)) as watch:
            yield watch

    @contextlib.contextmanager
    def writing(self, layer: Descriptor, footprint_bytes: int, stop: Stop) -> Iterator[Stop]:
        """Does what `unpacking` does, for a layer that we write; it may not be in the store yet.

        `footprint_bytes` is what it takes, if it was measured; else 0. Our writer leaves holes
        where a sparse file has them.
        """

        def needed(room: int, stop: Stop) -> int:
            known = max(footprint_bytes, self._known(layer))
            if known or room > _AMPLE_BYTES + _AMPLE_RATIO * layer.size_bytes:
                return max(known, layer.size_bytes)
            return self._needed(layer, None, room, stop)

        with self._granted(layer, stop, needed) as watch:
            yield watch

    def _known(self, layer: Descriptor) -> int:
        return 0 if self._footprints is None else self._footprints.known(layer.digest)

    @contextlib.contextmanager
    def _granted(
        self, layer: Descriptor, stop: Stop, needed: Callable[[int, Stop], int]
    ) -> Iterator[Stop]:
        room = None if self.root is None else self._space.room_bytes(self.root)
        if self.root is None or room is None:
            yield stop
            return
        with self._space.granting(self.root, needed(room, stop)) as grant:
            watch = Watch(self._space, (self.root,), grant, stop)
            try:
                yield watch
            except StoppedError as exc:
                if not watch.is_full:
                    raise
                self._surprising.add(layer.digest)
                raise watch.error(f"layer {layer.digest} takes more than was expected") from exc

    def _needed(
        self, layer: Descriptor, uncompressed: UncompressedLayer | None, room: int, stop: Stop
    ) -> int:
        if self._footprints is None:
            return (uncompressed.descriptor if uncompressed else layer).size_bytes
        known = self._footprints.known(layer.digest)
        if uncompressed is not None:
            return max(uncompressed.footprint_bytes, known)
        ample = _AMPLE_BYTES + _AMPLE_RATIO * layer.size_bytes
        is_known = layer.digest in self._surprising
        if is_compressed(layer) and room > ample and not is_known:
            return max(layer.size_bytes, known)
        measured = self._footprints.measure(layer, room, stop)
        return layer.size_bytes if measured is None else measured


class Watch:
    """A `stop` that looks at the free space of paths whenever it is asked."""

    def __init__(
        self, space: DiskSpace, paths: Sequence[Path], grant: Grant | None, stop: Stop
    ) -> None:
        self._space, self._paths, self._grant, self._stop = space, paths, grant, stop
        rooms = [room for path in paths if (room := space.room_bytes(path)) is not None]
        self._guard = GUARD_BYTES if grant is None else min([GUARD_BYTES, *(r // 2 for r in rooms)])
        """With little room beside a grant, what fits its grant to the byte must end too."""
        self.is_full = False
        """True once it stopped for lack of space."""

    def __call__(self) -> bool:
        self.is_full = self.is_full or any(map(self._is_short, self._paths))
        return self.is_full or self._stop()

    def _is_short(self, path: Path) -> bool:
        if self._space.is_passed(path):
            return True
        if self._grant is not None and self._grant.left_bytes:
            return False
        room = self._space.room_bytes(path)
        return room is not None and room < self._guard

    def error(self, what: str) -> StorageFullError:
        """Returns the error of a cancelled write."""
        text = f"{what}: cancelled before less than min_free_bytes was free"
        log.warning("%s (%s)", text, human_bytes(self._space.min_free_bytes))
        return StorageFullError(f"containerd's file system is nearly full: {text}")
