"""A content store that writes nothing: it hashes blobs and keeps small documents in memory.

For `airside inspect`, which must read manifests and configs but writes nothing to disk. An ingest
keeps its content while it may be a JSON document: it begins like one and is no larger than
`limits.document_bytes`. The total is bounded too, since archives may be hostile.
"""

import io
import threading
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from airside.core.errors import ArchiveLimitError, ManifestInvalidError, NotFoundError
from airside.core.settings import MIB, Limits
from airside.oci.digest import BytesLike, Digest, new_hasher
from airside.oci.model import Descriptor
from airside.ports.content import Ingest

KEPT_BYTES = 64 * MIB
"""The most bytes that all ingests of one store keep in memory."""

_DOCUMENT_BEGINS = b"{[ \t\r\n"


class HashOnlyStore:
    """A `ContentStore` that holds no blob and never commits. Thread-safe."""

    def __init__(self, limits: Limits, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._limits = limits
        self._room_bytes = kept_bytes
        self._lock = threading.Lock()

    def check_space(self, needed_bytes: int) -> None:
        """Does nothing: nothing is written, so everything fits."""

    def stat(self, digest: Digest) -> int | None:
        del digest
        return None

    def is_right(self, digest: Digest) -> bool:
        del digest
        return False

    def open(self, digest: Digest) -> BinaryIO:
        raise NotFoundError(f"blob {digest} is not held", blob=digest)

    def ingest(self, algorithm: str = "sha256") -> "HashOnlyIngest":
        return HashOnlyIngest(self, algorithm, self._limits.document_bytes)

    def commit(self, ingests: Sequence[Ingest]) -> int:
        raise NotImplementedError("this store only hashes: it cannot commit")

    def delete(self, digest: Digest) -> int:
        del digest
        return 0

    def missing(self, descriptors: Iterable[Descriptor]) -> list[Descriptor]:
        return list(descriptors)

    def digests(self) -> Iterable[Digest]:
        return ()

    def take_room(self, count: int) -> bool:
        """Reserves memory until `give_back`.

        Returns False if `count` more bytes exceed the limit.
        """
        with self._lock:
            if count > self._room_bytes:
                return False
            self._room_bytes -= count
            return True

    def give_back(self, count: int) -> None:
        with self._lock:
            self._room_bytes += count


class HashOnlyIngest:
    """An ingest that hashes a blob, and keeps it while it may be a document."""

    def __init__(self, store: HashOnlyStore, algorithm: str, document_bytes: int) -> None:
        self._store, self._algorithm, self._document_bytes = store, algorithm, document_bytes
        self._hasher = new_hasher(algorithm)
        self._size_bytes = 0
        self._kept = bytearray()
        self._dropped: ArchiveLimitError | ManifestInvalidError | None = None

    def hash(self, chunk: BytesLike) -> None:
        self._hasher.update(chunk)
        self._size_bytes += len(chunk)

    def write(self, chunk: BytesLike) -> None:
        if self._dropped is not None or not len(chunk):
            return
        if not self._kept and chunk[0] not in _DOCUMENT_BEGINS:
            self._drop(ManifestInvalidError("it is not a JSON document"))
        elif len(self._kept) + len(chunk) > self._document_bytes:
            self._drop(
                ArchiveLimitError(
                    f"it has more than {self._document_bytes} bytes (limits.document_bytes)"
                )
            )
        elif not self._store.take_room(len(chunk)):
            self._drop(ArchiveLimitError("the documents of this archive take too much memory"))
        else:
            self._kept += chunk

    def _drop(self, reason: ArchiveLimitError | ManifestInvalidError) -> None:
        self.discard()
        self._dropped = reason

    def finish(self) -> None:
        """Does nothing: there is no descriptor to release."""

    @property
    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hasher.hexdigest())

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def open(self) -> BinaryIO:
        """Opens the document.

        Raises ManifestInvalidError or ArchiveLimitError if it was dropped.
        """
        if self._dropped is not None:
            message = f"blob {self.digest} cannot be read: {self._dropped.message}"
            raise type(self._dropped)(message, blob=self.digest)
        return io.BytesIO(bytes(self._kept))

    def discard(self) -> None:
        self._store.give_back(len(self._kept))
        self._kept = bytearray()
