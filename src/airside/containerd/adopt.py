"""Adopts blobs of our store in containerd, without sending their bytes (ADR 0016).

containerd's metadata store accepts a write without data if its content directory already holds the
digest. So a blob is hard-linked into that directory (copied, on another file system), then
committed with all its labels under a lease. Where containerd refuses that, the blob is sent over
gRPC: correctness never depends on adoption.

Each link is recorded before it is made (`Intents`), so that a crash leaves no unknown file.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import BinaryIO

from airside.containerd.adoption_proof import AdoptionProof
from airside.containerd.client import Client
from airside.containerd.content_directory import BlobSource, ContentDirectory
from airside.containerd.intents import Intents
from airside.containerd.services.content import BlobInfo
from airside.containerd.sweep import Sweeper, ingest_key
from airside.core.errors import (
    AirsideError,
    ConflictError,
    ContainerdError,
    NotFoundError,
    StoreError,
)
from airside.core.failpoints import fault
from airside.oci.digest import Digest
from airside.oci.model import Descriptor
from airside.ports.publication import missing_labels

log = logging.getLogger("airside.containerd")

STREAM, HELD = "stream", "held"
_TRIES = 3
_AT_ONCE = 4
"""Blobs that are committed at once: containerd and we work side by side."""


@dataclass(frozen=True, slots=True)
class LabelledBlob:
    """A blob to place in a namespace, with all its labels."""

    descriptor: Descriptor
    labels: Mapping[str, str]


@dataclass(slots=True)
class Placement:
    """The blobs of one image, its lease, and how they were placed."""

    blobs: Sequence[LabelledBlob]
    lease: str
    ways: Counter[str] = field(default_factory=Counter)


_Absent = tuple[Placement, LabelledBlob]


class Adopter:
    """Places blobs in one namespace of one containerd. Thread-safe.

    `directory` is containerd's content directory, None if unknown. `identity` is the prefix of our
    leases and ingest keys. `why_streamed` says why blobs must be sent; it is empty if they are
    adopted.
    """

    def __init__(
        self,
        client: Client,
        store: BlobSource,
        intents: Intents,
        directory: ContentDirectory | None,
        identity: str,
    ) -> None:
        self._client, self._store, self._intents = client, store, intents
        self._directory, self._identity = directory, identity
        self.why_streamed = "containerd has not yet been proved to adopt blobs"

    @property
    def why_copied(self) -> str:
        """Why blobs were copied instead of linked; empty if none was."""
        return self._directory.why_copied if self._directory is not None else ""

    @property
    def shares_directory(self) -> bool:
        """True if containerd adopts blobs, so that they need not be sent."""
        return self._shared is not None

    @property
    def _shared(self) -> ContentDirectory | None:
        return None if self.why_streamed else self._directory

    def prove(self) -> None:
        """Tries adoption with a small blob and sets `why_streamed`. Raises ContainerdError."""
        proof = AdoptionProof(self._client, self._directory, self._intents, self._identity)
        self.why_streamed = proof.run()
        if self.why_streamed:
            log.warning(
                "%s: blobs are sent over gRPC instead of linked: %s",
                self._client.channel.socket,
                self.why_streamed,
            )

    def sweep(self) -> None:
        """Deletes what an interrupted publish left: leases, ingests, private files, links."""
        Sweeper(self._client, self._directory, self._intents, self._identity).sweep()

    def place(self, placements: Sequence[Placement]) -> None:
        """Places the blobs of some images in the namespace, labelled and held by their leases.

        Each blob is placed once, whoever needs it, several at once. Counts in `ways` how many blobs
        were linked, copied, streamed, or held before. Raises ContainerdError, StoreError, and
        NotFoundError if a lease is gone: of one of the images, so that the others can be repeated.
        """
        firsts, others = self._absent(placements)
        linked: dict[Digest, str] = {}
        adopted: dict[Digest, str] = {}
        try:
            if self._shared is not None:
                linked = self._link_all([blob for _, blob in firsts], self._shared)
            with ThreadPoolExecutor(_AT_ONCE, "place") as pool:
                placed = [pool.submit(self._adopt, linked, adopted, *each) for each in firsts]
            for each in placed:  # all have ended
                each.result()
        finally:
            if self._shared is not None:
                self._settle(linked, adopted, self._shared)
                self._shared.drop_private()  # a blob linked a second time may have made it
        labels = {blob.descriptor.digest: blob.labels for _, blob in firsts}
        for placement, blob in others:
            digest, lease = blob.descriptor.digest, placement.lease
            if adopted[digest] == HELD:
                is_held = self._holds(blob, lease)
            else:  # the lease of the first still holds it
                is_held = self._hold_adopted(blob, labels[digest], lease)
            placement.ways[HELD if is_held else self._commit(blob, lease, "")] += 1

    def _absent(self, placements: Sequence[Placement]) -> tuple[list[_Absent], list[_Absent]]:
        """Holds what the namespace has. Returns what it lacks, and what others need of that."""
        infos: dict[Digest, BlobInfo | None] = {}
        firsts: dict[Digest, _Absent] = {}
        others: list[_Absent] = []
        for placement in placements:
            for blob in placement.blobs:
                digest = blob.descriptor.digest
                if digest in firsts:
                    others.append((placement, blob))
                    continue
                if digest not in infos:
                    infos[digest] = self._client.content.info(digest)
                info = infos[digest]
                if info is not None and self._hold(blob, info, placement.lease):
                    placement.ways[HELD] += 1
                else:
                    firsts[digest] = (placement, blob)
        return list(firsts.values()), others

    def _adopt(
        self,
        linked: Mapping[Digest, str],
        adopted: dict[Digest, str],
        placement: Placement,
        blob: LabelledBlob,
    ) -> None:
        """Commits one blob, and notes how."""
        digest = blob.descriptor.digest
        way = self._commit(blob, placement.lease, linked.get(digest, ""))
        adopted[digest] = way
        placement.ways[way] += 1

    def _hold_adopted(self, blob: LabelledBlob, labels: Mapping[str, str], lease: str) -> bool:
        digest = blob.descriptor.digest
        self._client.leases.add_blob(lease, digest)
        added = missing_labels(blob.labels, labels)
        try:
            if added:
                self._client.content.label(digest, added)
        except NotFoundError:
            return False
        return True

    def _settle(
        self,
        linked: Mapping[Digest, str],
        adopted: Mapping[Digest, str],
        directory: ContentDirectory,
    ) -> None:
        """Clears the intents of the blobs that containerd adopted. The others stay recorded."""
        known = [d for d in linked if d in adopted or self._is_known(d)]
        self._intents.clear([str(directory.path(digest)) for digest in known])

    def _is_known(self, digest: Digest) -> bool:
        with contextlib.suppress(AirsideError):
            return self._client.content.info(digest) is not None
        return False

    def _holds(self, blob: LabelledBlob, lease: str) -> bool:
        """Adds a blob to the lease, and the labels that it lacks. Returns False if it is absent."""
        digest = blob.descriptor.digest
        info = self._client.content.info(digest)
        return info is not None and self._hold(blob, info, lease)

    def _hold(self, blob: LabelledBlob, info: BlobInfo, lease: str) -> bool:
        digest = blob.descriptor.digest
        self._client.leases.add_blob(lease, digest)
        added = missing_labels(blob.labels, info.labels)
        if not added:
            return self._client.content.info(digest) is not None
        try:
            self._client.content.label(digest, added)
        except NotFoundError:  # GC deleted the blob just now
            return False
        return True

    def _commit(self, blob: LabelledBlob, lease: str, way: str) -> str:
        """Commits one blob. Returns the way it was placed: link, copy, stream or held."""
        descriptor = blob.descriptor
        digest, key = descriptor.digest, ingest_key(self._identity, descriptor.digest)
        for _ in range(_TRIES if way else 0):
            try:
                self._client.content.adopt(key, digest, descriptor.size_bytes, blob.labels, lease)
            except ConflictError:
                if self._holds(blob, lease):
                    return HELD
            except ContainerdError as exc:
                if exc.context.get("status") != "OUT_OF_RANGE":
                    raise
                self._client.content.abort(key)  # GC deleted the link in between
                way = self._shared.link(digest) if self._shared is not None else ""
            else:
                fault("publish.after_adopt")
                return way
        return self._send(blob, lease, key)

    def _send(self, blob: LabelledBlob, lease: str, key: str) -> str:
        descriptor = blob.descriptor
        directory = self._directory
        for _ in range(_TRIES):
            with (
                self._open(descriptor.digest) as file,
                directory.sending(descriptor.size_bytes) if directory else nullcontext(),
            ):
                try:
                    self._client.content.send(
                        key, descriptor.digest, descriptor.size_bytes, blob.labels, lease, file
                    )
                except ConflictError:
                    if self._holds(blob, lease):
                        return HELD
                    continue
                except ContainerdError:
                    with contextlib.suppress(AirsideError):
                        self._client.content.abort(key)
                    raise
            fault("publish.after_send")
            return STREAM
        raise ContainerdError(
            f"containerd lost blob {descriptor.digest} {_TRIES} times after it was sent"
        )

    def _open(self, digest: Digest) -> BinaryIO:
        try:
            return self._store.open(digest)
        except NotFoundError as exc:
            raise StoreError(
                f"blob {digest} was deleted from the store during the publish", blob=digest
            ) from exc

    def _link_all(
        self, blobs: Sequence[LabelledBlob], directory: ContentDirectory
    ) -> dict[Digest, str]:
        """Links these blobs into the content directory, durably. Returns the way of each."""
        digests = [blob.descriptor.digest for blob in blobs]
        if not digests:
            return {}
        self._check(digests)
        self._intents.record({str(directory.path(d)): str(d) for d in digests})
        fault("publish.after_intent")
        found = {digest: way for digest in digests if (way := directory.link(digest))}
        directory.sync(found)
        fault("publish.after_link")
        return found

    def _check(self, digests: Iterable[Digest]) -> None:
        """Raises StoreError for a blob that is wrong in the store: containerd adopts any bytes."""
        for digest in digests:
            if not self._store.is_right(digest):
                self._store.suspect(digest)
                raise StoreError(
                    f"blob {digest} is damaged in the store: the image is published when it is "
                    "repaired",
                    blob=digest,
                )

    def is_same(self, digest: Digest) -> bool:
        """Returns True if containerd's file of a blob is a hard link to ours."""
        return self._directory is not None and self._directory.is_same(digest)

    def replace(self, digest: Digest) -> bool:
        """Replaces containerd's file of a blob by the store's.

        Returns False where containerd is not proved to adopt blobs. Raises StoreError.
        """
        if self._shared is None:
            return False
        fault("repair.before_replace")
        self._shared.replace(digest)
        fault("repair.after_replace")
        return True
