"""Whole images of the store, found from a document of theirs by hashing everything below it.

For a catalog that is rebuilt: what is recorded has the bytes of its digests. Blocking.
"""

from dataclasses import dataclass, field

from airside.catalog.model import ClaimedName
from airside.core.errors import InputError, NotFoundError, StoreError
from airside.oci.digest import Digest
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

_MOST_LEVELS = 32
"""Indexes within indexes; `limits.nesting` allows 4."""


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


@dataclass(slots=True)
class VerifiedBlobs:
    """Hashes each blob once: many images may share a large layer, and many names an image.

    `document_bytes`: the size of the largest manifest or index (`limits.document_bytes`).
    """

    store: LocalStore
    document_bytes: int
    _true: dict[Digest, bool] = field(default_factory=dict)

    def is_true(self, digest: Digest) -> bool:
        """Returns True if the store holds the blob and its bytes hash to its digest."""
        if digest not in self._true:
            try:
                self._true[digest] = self.store.hash_blob(digest) == digest
            except (NotFoundError, StoreError):
                self._true[digest] = False
        return self._true[digest]


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
    if level > _MOST_LEVELS or root.size_bytes > held.document_bytes or not _is_whole(held, root):
        return False
    with held.store.open(root.digest) as file:
        raw = file.read()
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
        needed = [blob for blob in document.children if blob.is_distributable]
        if not all(_is_whole(held, blob) for blob in needed):
            return False
        found.blobs |= {blob.digest: blob.size_bytes for blob in needed}
        if document.is_image:
            _platform(held.store, document, found)
    found.documents[root.digest] = document
    found.blobs[root.digest] = root.size_bytes
    return True


def _platform(store: LocalStore, document: Document, found: FoundImages) -> None:
    config = document.children[0].digest
    with store.open(config) as file:
        raw = file.read()
    try:
        platform = parse_config(raw, str(config)).platform
    except InputError:
        return
    if platform is not None:
        found.platforms[document.digest] = platform


def _is_whole(held: VerifiedBlobs, blob: Descriptor) -> bool:
    return held.is_true(blob.digest) and held.store.stat(blob.digest) == blob.size_bytes
