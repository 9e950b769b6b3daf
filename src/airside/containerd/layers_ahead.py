"""Decompresses layers before they are needed, and hands them out when they are."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from airside.containerd.uncompressed_layers import UncompressedLayer, UncompressedLayers
from airside.containerd.unpack_layer import LayerSource
from airside.containerd.verified_tars import VerifiedTar, VerifiedTars
from airside.core.errors import AirsideError, StoppedError, UnusualLayerError
from airside.core.priority import NORMAL, Priority
from airside.oci.chain import Step, is_compressed
from airside.oci.digest import Digest

Stop = Callable[[], bool]
Opened = VerifiedTar | UncompressedLayer

_PER_THREAD = 2
"""Layers that are decompressed ahead; it bounds the disk space of uncompressed layers."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A layer that is being decompressed before it is needed."""

    image: object
    opened: "Future[Opened | None]"


class LayersAhead:
    """Thread-safe. Close it.

    `writes` returns True if we write layers: then they are opened as `tars`; else `uncompressed`
    makes them for Apply. Either may be None.
    """

    def __init__(
        self,
        uncompressed: UncompressedLayers | None,
        tars: VerifiedTars | None,
        writes: Callable[[], bool],
        *,
        threads: int,
        priority: Priority = NORMAL,
    ) -> None:
        self.uncompressed, self._tars, self._writes = uncompressed, tars, writes
        self._pool = ThreadPoolExecutor(threads, "decompress", priority.apply)
        self._most = threads * _PER_THREAD
        self._lock = threading.Lock()
        self._ahead: dict[Digest, _Ahead] = {}

    def close(self, *, wait: bool) -> None:
        self._pool.shutdown(wait=wait)

    def prepare(self, step: Step, image: object, lease: str, stop: Stop) -> None:
        """Begins to decompress a layer for an image, unless that is no use or too many wait."""
        if not is_compressed(step.layer):
            return
        make: Callable[[], Opened | None]
        if self._writes() and self._tars is not None:
            tars = self._tars
            make = lambda: tars.open(step, stop)  # noqa: E731
        elif self.uncompressed is not None:
            uncompressed = self.uncompressed
            make = lambda: uncompressed.make(step.layer, lease, stop)  # noqa: E731
        else:
            return
        with self._lock:
            if step.chain in self._ahead or len(self._ahead) >= self._most:
                return
            with contextlib.suppress(RuntimeError):  # closed
                self._ahead[step.chain] = _Ahead(image, self._pool.submit(make))

    @contextlib.contextmanager
    def source(self, step: Step, lease: str, stop: Stop) -> Iterator[LayerSource]:
        """Lends the bytes of a layer, decompressed ahead or now."""
        source = _Source(self, step, lease, stop)
        try:
            yield source
        finally:
            for opened in source.used:
                self._free(opened)

    def take(self, step: Step) -> Opened | None:
        """Returns a layer that was decompressed ahead; waits for it. None: there is none.

        Raises what opening it raised.
        """
        with self._lock:
            ahead = self._ahead.pop(step.chain, None)
        if ahead is None:
            return None
        try:
            return ahead.opened.result()
        except StoppedError:  # the image that asked for it first was stopped
            return None

    def open_tar(self, step: Step, stop: Stop) -> VerifiedTar:
        if self._tars is None:
            raise UnusualLayerError("layers cannot be read here")
        return self._tars.open(step, stop)

    def drop_all(self, image: object) -> None:
        """Drops what was decompressed for an image and not taken; it may be in progress."""
        with self._lock:
            chains = [chain for chain, ahead in self._ahead.items() if ahead.image is image]
            dropped = [self._ahead.pop(chain) for chain in chains]
        for ahead in dropped:
            if not ahead.opened.cancel():
                ahead.opened.add_done_callback(self._free_made)

    def _free_made(self, made: "Future[Opened | None]") -> None:
        opened = None if made.exception() else made.result()
        if opened is not None:
            self._free(opened)

    def _free(self, opened: Opened) -> None:
        if isinstance(opened, VerifiedTar):
            opened.close()
        elif self.uncompressed is not None:
            self.uncompressed.drop(opened)


class _Source:
    """The bytes of one layer. For one thread. `used` is to be freed."""

    def __init__(self, layers: LayersAhead, step: Step, lease: str, stop: Stop) -> None:
        self._layers, self._step = layers, step
        self._lease, self._stop = lease, stop
        self.used: list[Opened] = []

    def tar(self) -> VerifiedTar:
        found = self._layers.take(self._step)
        if found is not None:
            self.used.append(found)
        if not isinstance(found, VerifiedTar):
            found = self._layers.open_tar(self._step, self._stop)
            self.used.append(found)
        return found

    def uncompressed(self) -> UncompressedLayer | None:
        if self._layers.uncompressed is None:
            return None
        found: Opened | None = None
        with contextlib.suppress(AirsideError):  # containerd says what is wrong with the layer
            found = self._layers.take(self._step)
        if found is not None:
            self.used.append(found)
        if not isinstance(found, UncompressedLayer):
            found = self._layers.uncompressed.make(self._step.layer, self._lease, self._stop)
            if found is not None:
                self.used.append(found)
        return found
