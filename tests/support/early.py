"""A runtime in memory that layers are offered to while their archive is read."""

import threading
from collections.abc import Callable

from airside.core.errors import AirsideError
from airside.oci.digest import Digest, digest_of
from airside.ports.early_layers import EarlyLayers, VerifiedLayer


class MemoryEarly:
    """Implements `EarlyUnpacking`, and `EarlyLayers` for one archive at a time.

    `events` has what happened in order; `read` has the digest of what each layer's file held.
    `on_layer` is called for each offer.
    """

    def __init__(self, on_layer: Callable[[], None] = lambda: None) -> None:
        self.events: list[tuple[str, object]] = []
        self.images: list[tuple[Digest, ...]] = []
        self.layers: list[Digest] = []
        self.read: dict[Digest, Digest] = {}
        self.sources: dict[Digest, VerifiedLayer] = {}
        self._on_layer, self._lock = on_layer, threading.Lock()

    def begin(self) -> EarlyLayers:
        self.events.append(("begin", None))
        return self

    def add_image(self, diff_ids: tuple[Digest, ...]) -> None:
        with self._lock:
            self.events.append(("image", diff_ids))
            self.images.append(diff_ids)

    def add_layer(self, diff_id: Digest, layer: VerifiedLayer) -> None:
        self.sources[layer.descriptor.digest] = layer
        try:
            with layer.open() as file:
                raw = file.read()
        except AirsideError:  # as the contract says: nothing is raised
            return
        with self._lock:
            self.events.append(("layer", diff_id))
            self.layers.append(diff_id)
            self.read[layer.descriptor.digest] = digest_of(raw)
        self._on_layer()

    def keep(self) -> None:
        self.events.append(("keep", None))

    def discard(self) -> None:
        self.events.append(("discard", None))

    @property
    def end(self) -> str:
        return self.events[-1][0]

    def can_open(self, digest: Digest) -> bool:
        try:
            self.sources[digest].open().close()
        except AirsideError:
            return False
        return True


class OneRuntime:
    """A connected runtime with nothing but this."""

    content = copies = puller = None

    def __init__(self, early: MemoryEarly) -> None:
        self.early = early

    def wanted(self) -> frozenset[str]:
        return frozenset()
