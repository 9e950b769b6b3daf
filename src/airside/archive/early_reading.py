"""Offers an archive's layers to the runtimes as soon as they are verified (ADR 0047).

The runtimes make snapshots while the rest is read. Only what was hashed and written is offered, and
nothing is named: names come after the import, as ever. Thread-safe: members are reported by the
thread that writes them, while another decides what is read next.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from airside.archive.early_images import DOCUMENT_BYTES, EarlyImages, Found
from airside.archive.formats.plan import Facts
from airside.archive.tar.members import Member
from airside.core.errors import AirsideError, NotFoundError
from airside.oci.digest import Digest
from airside.oci.platform import Platform
from airside.ports.content import ContentStore, Ingest
from airside.ports.early_layers import EarlyLayers, EarlyUnpacking, VerifiedLayer

log = logging.getLogger("airside.import")

BeginEarly = Callable[[], Sequence[EarlyUnpacking]]
"""Returns the runtimes that may unpack early now."""


def begin_early(
    store: ContentStore, node: Platform, runtimes: Sequence[EarlyUnpacking]
) -> "EarlyReading | None":
    """Begins with an archive in all runtimes; None if none of them unpacks early at the moment."""
    begun = [early for runtime in runtimes if (early := runtime.begin()) is not None]
    return EarlyReading(store, node, begun) if begun else None


class EarlyReading:
    """What one archive that is being read offers, to all runtimes that take it. Never raises."""

    def __init__(self, store: ContentStore, node: Platform, taken: Sequence[EarlyLayers]) -> None:
        self._store, self._taken = store, taken
        self._images = EarlyImages(node)
        self._open: dict[Digest, Callable[[], BinaryIO]] = {}
        """Opens each member that was verified: its image may be known only later."""
        self._lock = threading.Lock()

    def verified(self, facts: Facts, ingest: Ingest | None) -> None:
        """Reports a member whose bytes are hashed and written: to the ingest, or stored before."""
        if not self._taken or facts.digest.algorithm != "sha256" or not facts.size_bytes:
            return

        def opened() -> BinaryIO:
            if ingest is not None:
                try:
                    return ingest.open()
                except AirsideError:
                    pass  # it was committed, or discarded, meanwhile
            return self._stored(facts.digest)

        try:
            raw = None
            if facts.size_bytes <= DOCUMENT_BYTES and facts.head.lstrip()[:1] == b"{":
                with opened() as file:
                    raw = file.read(DOCUMENT_BYTES)
            with self._lock:
                self._open[facts.digest] = opened
                found = self._images.add(facts.digest, facts.size_bytes, raw)
        except (AirsideError, OSError) as exc:  # the import fails by it, if it matters
            log.debug("member %s is not offered for unpacking: %s", facts.digest, exc)
            return
        self._offer(found)

    def _stored(self, digest: Digest) -> BinaryIO:
        """Opens a blob of the store, which may be of an earlier import: hashed if not lately.

        Raises NotFoundError if it is absent or wrong, StoreError, StoppedError.
        """
        if not self._store.is_right(digest):
            raise NotFoundError(f"blob {digest} is not in the store, or is wrong", blob=digest)
        return self._store.open(digest)

    def _offer(self, found: Found) -> None:
        for early in self._taken:
            for diff_ids in found.images:
                early.add_image(diff_ids)
            for diff_id, descriptor in found.layers:
                early.add_layer(diff_id, VerifiedLayer(descriptor, self._open[descriptor.digest]))

    def documents_first(self, wanted: Sequence[Member]) -> tuple[list[Member], list[Member]]:
        """Splits members into the small ones, which may be documents, and the others."""
        small = [member for member in wanted if member.size_bytes <= DOCUMENT_BYTES]
        return small, [member for member in wanted if member.size_bytes > DOCUMENT_BYTES]

    def ordered(
        self, wanted: Sequence[Member], digest_of: Callable[[Member], Digest | None]
    ) -> list[Member]:
        """Orders members so that what holds up most is read first; else as they are."""
        named: Mapping[str, Digest | None] = {m.name: digest_of(m) for m in wanted}
        sizes = {d: m.size_bytes for m in wanted if (d := named[m.name]) is not None}
        with self._lock:
            weights = self._images.weights(sizes)

        def rank(member: Member) -> tuple[int, int]:
            digest = named[member.name]
            most, count = weights.get(digest, (0, 0)) if digest is not None else (0, 0)
            return -most, -count

        return sorted(wanted, key=rank)

    def keep(self) -> None:
        """The import was committed."""
        taken, self._taken = self._taken, ()
        for early in taken:
            early.keep()

    def discard(self) -> None:
        """The archive is refused, unless `keep` was called: removes what was unpacked of it."""
        taken, self._taken = self._taken, ()
        for early in taken:
            early.discard()
