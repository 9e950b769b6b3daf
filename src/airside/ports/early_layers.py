"""The port by which layers are unpacked while their archive is still read (ADR 0047).

The importer offers what it has verified; a container runtime makes snapshots of it under a lease of
its own. Nothing gets a name by this: the publisher finds the snapshots after the import.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from airside.oci.digest import Digest
from airside.oci.model import Descriptor


@dataclass(frozen=True, slots=True)
class VerifiedLayer:
    """A layer whose bytes were hashed: `descriptor` has their digest and length.

    `open` opens exactly those bytes, before and after the import is committed; the caller closes
    the file. It raises NotFoundError once the import was given up, and StoreError.
    """

    descriptor: Descriptor
    open: Callable[[], BinaryIO]


class EarlyLayers(Protocol):
    """The layers of one archive that is being read. Thread-safe.

    `add_image`, `add_layer` and `keep` never wait for a layer, and no method raises: an early
    unpack that fails is left to the publisher, which reports it. Exactly one of `keep` and
    `discard` ends it.
    """

    def add_image(self, diff_ids: tuple[Digest, ...]) -> None:
        """Unpacks an image of these layers, lowest first, as far as they are verified."""

    def add_layer(self, diff_id: Digest, layer: VerifiedLayer) -> None:
        """Tells that a layer is verified.

        A plain tar has its diff ID as digest. That a compressed layer is one of this diff ID is
        known only when it is decompressed: the implementation compares.
        """

    def keep(self) -> None:
        """The import was committed: what is unpacked stays until the publisher has passed."""

    def discard(self) -> None:
        """The archive is refused: stops, and removes the snapshots that nobody else uses.

        Returns when that is done, or after some seconds; then the next connection removes them.
        """


class EarlyUnpacking(Protocol):
    """Unpacks early in one runtime. Thread-safe; never raises."""

    def begin(self) -> EarlyLayers | None:
        """Begins with an archive; None if nothing is unpacked early there at the moment."""
