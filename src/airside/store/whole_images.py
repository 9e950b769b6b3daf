"""Whole images of the store, found from a document of theirs by hashing everything below it.

For a catalog that is rebuilt (ADR 0052): what is recorded has the bytes of its digests. Blocking.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from airside.catalog.model import ClaimedName
from airside.core.errors import InputError, NotFoundError, StoreError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import (
    DOCUMENT_TYPES,
    Descriptor,
    Document,
    Index,
    parse_config,
    parse_document,
)
from airside.oci.platform import Platform
from airside.store.local import LocalStore
from airside.store.rehash import file_key

_MOST_LEVELS = 32
"""Indexes within indexes; `limits.nesting` allows 4."""
_LARGE_BYTES = 256 * 1024
"""A blob of this size is hashed ahead: for smaller ones threads cost more than they save."""


@dataclass(slots=True)
class FoundImages:
    """The names, documents and blobs that are recorded of one source."""

    claims: list[tuple[ClaimedName, int]] = field(default_factory=list)
    documents: dict[Digest, Document] = field(default_factory=dict)
    platforms: dict[Digest, Platform] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    complete: dict[Digest, bool] = field(default_factory=dict)

    def add(self, other: "FoundImages") -> None:
        """Adds what another one has below its documents; not its names."""
        self.documents |= other.documents
        self.platforms |= other.platforms
        self.blobs |= other.blobs


class VerifiedBlobs:
    """Which blobs have the bytes of their digests: each is hashed at most once.

    Many images may share a large layer, and many names an image. Of a recent proof
    (`store.proofs`) the file is not hashed again, unless it is a document, which is read anyhow.
    For one thread; `document_bytes`: the largest manifest or index (`limits.document_bytes`).
    """

    def __init__(self, store: LocalStore, document_bytes: int) -> None:
        self.store, self.document_bytes = store, document_bytes
        self._sizes: dict[Digest, int | None] = {}
        self._proved: dict[Digest, str] | None = None
        self._ahead: dict[Digest, Future[int | None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def hash_ahead(self) -> None:
        """Begins to hash all large blobs of the store in threads, the largest first.

        Call `close` in the end.
        """
        sizes = {digest: self.store.stat(digest) or 0 for digest in self.store.digests()}
        large = [digest for digest, size in sizes.items() if size >= _LARGE_BYTES]
        large = [digest for digest in large if not self._is_proved(digest)]
        cores = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(cores, "rebuild")
        for digest in sorted(large, key=lambda digest: sizes[digest], reverse=True):
            self._ahead[digest] = self._pool.submit(self._hashed, digest)

    def close(self) -> None:
        """Ends the hashing ahead; what was not begun is left out."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._ahead.clear()
        self._proved = None

    def is_true(self, digest: Digest) -> bool:
        """Returns True if the store holds the blob with the bytes of its digest."""
        return self._size(digest) is not None

    def is_whole(self, blob: Descriptor) -> bool:
        """Returns True if the store holds the blob with this size and the bytes of its digest."""
        return self._size(blob.digest) == blob.size_bytes

    def read_document(self, blob: Descriptor) -> bytes | None:
        """Returns the bytes of a document, hashed as they were read.

        None if the blob is absent, wrong or no document by its size.
        """
        digest = blob.digest
        if blob.size_bytes > self.document_bytes or self.store.stat(digest) != blob.size_bytes:
            return None
        try:
            with self.store.open(digest) as file:
                raw = file.read()
        except (NotFoundError, StoreError, OSError):
            raw = None
        if raw is not None and digest_of(raw, digest.algorithm) != digest:
            raw = None
        self._sizes[digest] = len(raw) if raw is not None else None
        return raw

    def _size(self, digest: Digest) -> int | None:
        """Returns the size of a blob; None if it is absent or its bytes are wrong."""
        if digest not in self._sizes:
            ahead = self._ahead.pop(digest, None)
            if ahead is not None:
                self._sizes[digest] = ahead.result()
            elif self._is_proved(digest):
                self._sizes[digest] = self.store.stat(digest)
            else:
                self._sizes[digest] = self._hashed(digest)
        return self._sizes[digest]

    def _is_proved(self, digest: Digest) -> bool:
        if self._proved is None:
            self._proved = self.store.verified.proved()
        key = self._proved.get(digest)
        try:
            return bool(key) and key == file_key(self.store.path(digest))
        except StoreError:
            return False

    def _hashed(self, digest: Digest) -> int | None:
        try:
            size = self.store.stat(digest)
            return size if self.store.hash_blob(digest) == digest else None
        except (NotFoundError, StoreError):
            return None


def collect_image(
    held: VerifiedBlobs, root: Descriptor, found: FoundImages, level: int = 1
) -> bool:
    """Reads the documents below a root and hashes their blobs. Returns False if one is missing.

    Each document is read once, however often indexes list it. Nothing of an image that is not whole
    is found: its blobs would be recorded, and collected as garbage. A blob may say that it is an
    index of anything: what is too large or nested too deep is no document.
    """
    if root.digest not in found.complete:
        found.complete[root.digest] = False  # an index cannot list itself, but bytes may be wrong
        found.complete[root.digest] = _collect_once(held, root, found, level)
    return found.complete[root.digest]


def _collect_once(held: VerifiedBlobs, root: Descriptor, found: FoundImages, level: int) -> bool:
    raw = held.read_document(root) if level <= _MOST_LEVELS else None
    if raw is None:
        return False
    try:
        document = parse_document(
            raw, root.media_type, str(root.digest), algorithm=root.digest.algorithm
        )
    except InputError:
        return False
    if isinstance(document.content, Index):
        nested = [c for c in document.content.manifests if c.media_type in DOCUMENT_TYPES]
        whole = [collect_image(held, child, found, level + 1) for child in nested]
        if not any(whole):
            return False
    else:
        config = held.read_document(document.children[0]) if document.is_image else None
        needed = [blob for blob in document.children if blob.is_distributable]
        if not all(held.is_whole(blob) for blob in needed):
            return False
        found.blobs |= {blob.digest: blob.size_bytes for blob in needed}
        if config is not None:
            _platform(config, document, found)
    found.documents[root.digest] = document
    found.blobs[root.digest] = root.size_bytes
    return True


def _platform(config: bytes, document: Document, found: FoundImages) -> None:
    try:
        platform = parse_config(config, str(document.children[0].digest)).platform
    except InputError:
        return
    if platform is not None:
        found.platforms[document.digest] = platform
