"""Loads the documents of one image at a time, for choosing and for publishing. Blocking.

What always holds:

- Between two steps an image is a `ChosenImage`: digests and sizes, no document.
- A step reserves the memory of what it loads from the account of all documents (ADR 0030), a large
  image all of the account. No reservation lasts while the runtime works, perhaps for minutes.
- The documents of an image stay in memory while it is published; those of a large one only of one
  image at a time, which nothing but the publishing of another large one waits for.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from airside.catalog.catalog import Catalog
from airside.catalog.tag_states import TagState
from airside.core.errors import ManifestInvalidError, NotFoundError
from airside.core.memory_account import MemoryAccount, acquire
from airside.core.settings import MIB
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import Descriptor, Document, Index, Manifest, parse_config, parse_document
from airside.oci.platform import Platform, parse_platform
from airside.oci.strict_json import parsed_bytes
from airside.ports.content import ContentStore
from airside.ports.node_manifest import Selector
from airside.ports.publication import NodeContent, Unwanted

SMALL_BYTES = MIB
"""The memory of choosing a usual image, with all manifests that its index lists."""
_MOST_BLOBS = 64

Result = TypeVar("Result")
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class ChosenImage:
    """What this node shall have of an image; `chain` are its documents, the target first."""

    chain: tuple[Descriptor, ...]
    config: Digest
    blobs: str
    """The digests of its distributable blobs, joined; "" for more than `_MOST_BLOBS`."""
    size_bytes: int = 0
    """Of its blobs, as they are stored."""
    note: str = ""
    """What is unusual about the choice of the manifest."""

    @property
    def target(self) -> Descriptor:
        return self.chain[0]

    @property
    def manifest(self) -> Descriptor:
        """The manifest of the node's platform."""
        return self.chain[-1]


class ImageDocuments:
    """The documents of the images in a catalog. Thread-safe."""

    def __init__(
        self,
        catalog: Catalog,
        store: ContentStore,
        node: Platform,
        document_bytes: int,
        memory: MemoryAccount,
        others: str = "sole",
    ) -> None:
        self._catalog, self._store, self._node, self._others = catalog, store, node, others
        self._document_bytes, self._memory = document_bytes, memory
        self._large = threading.Lock()

    def choose(
        self, tag: TagState, stop: Stop, *, is_listed: bool = False
    ) -> ChosenImage | Unwanted:
        """Returns what this node shall have of a tag, or why nothing. Raises StoppedError.

        `is_listed`: its platform counts, even if it is an image's only manifest.
        """

        def chosen(loading: _Loading) -> ChosenImage | Unwanted:
            target = loading.document(Descriptor(tag.media_type, parse_digest(tag.digest), 0))
            if target is None:
                return Unwanted("incomplete", "its manifest is missing")
            selector = self._selector(loading)
            if is_listed and selector.others == "sole":
                selector = replace(selector, others="none")
            found = selector.choose(target)
            return found if isinstance(found, Unwanted) else _chosen(found)

        return self._step(chosen, stop)

    def is_held(self, chosen: ChosenImage, held: frozenset[str], stop: Stop) -> bool:
        """Returns True if all blobs of an image are among `held`. Raises StoppedError.

        A usual image takes 5 µs, one whose documents are loaded again 400 µs.
        """
        if chosen.blobs:
            return held.issuperset(chosen.blobs.split())

        def check(loading: _Loading) -> bool:
            return held.issuperset(_blobs(loading.content(chosen)))

        try:
            return self._step(check, stop)
        except NotFoundError:
            return False

    @contextmanager
    def loaded(self, chosen: ChosenImage, stop: Stop) -> Iterator[NodeContent]:
        """Holds the documents of an image. Raises NotFoundError, StoppedError."""
        is_large = False
        try:
            try:
                with self._memory.reserved(SMALL_BYTES, stop):
                    content = self._loading(SMALL_BYTES).content(chosen)
            except _LargeImageError:
                acquire(self._large, stop)
                is_large = True
                with self._memory.reserved(self._memory.total_bytes, stop):
                    content = self._loading(None).content(chosen)
            yield content
        finally:
            if is_large:
                self._large.release()

    def _step(self, work: Callable[["_Loading"], Result], stop: Stop) -> Result:
        try:
            with self._memory.reserved(SMALL_BYTES, stop):
                return work(self._loading(SMALL_BYTES))
        except _LargeImageError:
            pass
        with self._memory.reserved(self._memory.total_bytes, stop):
            return work(self._loading(None))

    def _loading(self, most_bytes: int | None) -> "_Loading":
        return _Loading(self._catalog, self._store, self._document_bytes, most_bytes)

    def _selector(self, loading: "_Loading") -> Selector:
        return Selector(
            self._node, loading.document, loading.platform_of, self._is_whole, self._others
        )

    def _is_whole(self, manifest: Document) -> bool:
        assert isinstance(manifest.content, Manifest)
        needed = [blob for blob in manifest.content.blobs if blob.is_distributable]
        return not self._store.missing(needed)


class _LargeImageError(Exception):
    """The documents of an image take more memory than a usual one's: load them again, alone."""


@dataclass(slots=True)
class _Loading:
    """One step over one image. Raises _LargeImageError above `most_bytes`; None: never."""

    catalog: Catalog
    store: ContentStore
    document_bytes: int
    most_bytes: int | None
    loaded_bytes: int = 0

    def document(self, descriptor: Descriptor) -> Document | None:
        """Returns a document; None if it is missing or invalid."""
        raw = self.catalog.document(descriptor.digest)
        if raw is None:
            return None
        self._count(raw)
        digest = descriptor.digest
        try:
            return parse_document(
                raw, descriptor.media_type, str(digest), algorithm=digest.algorithm
            )
        except ManifestInvalidError:
            return None

    def platform_of(self, manifest: Document) -> Platform | None:
        """Returns the platform of a manifest: as `index.json` listed it, else as its config says.

        None if that cannot be read.
        """
        listed = self.catalog.lookup.platform(str(manifest.digest))
        if listed:
            return parse_platform(listed)
        assert isinstance(manifest.content, Manifest)
        config = manifest.content.config.digest
        try:
            with self.store.open(config) as file:
                raw = file.read(self.document_bytes)
            self._count(raw)
            return parse_config(raw, str(config)).platform
        except (NotFoundError, ManifestInvalidError):
            return None

    def content(self, chosen: ChosenImage) -> NodeContent:
        """Returns the documents of an image, with what publishing needs. Raises NotFoundError."""
        found: list[Document] = []
        for position, each in enumerate(chosen.chain):
            document = self.document(each)
            if document is None:
                raise NotFoundError(f"document {each.digest} is missing", blob=each.digest)
            found.append(_without_lists(document, chosen.chain[position + 1 : position + 2]))
        return NodeContent(tuple(found))

    def _count(self, raw: bytes) -> None:
        self.loaded_bytes += len(raw) + parsed_bytes(raw)
        if self.most_bytes is not None and self.loaded_bytes > self.most_bytes:
            raise _LargeImageError


def _chosen(content: NodeContent) -> ChosenImage:
    chain = (Descriptor(each.media_type, each.digest, each.size_bytes) for each in content.chain)
    blobs = _blobs(content)
    joined = " ".join(blobs) if len(blobs) <= _MOST_BLOBS else ""
    size_bytes = sum(blob.size_bytes for blob in content.blobs if blob.is_distributable)
    return ChosenImage(tuple(chain), content.config, joined, size_bytes, content.note)


def _blobs(content: NodeContent) -> list[str]:
    return [str(blob.digest) for blob in content.blobs if blob.is_distributable]


def _without_lists(document: Document, child: tuple[Descriptor, ...]) -> Document:
    """Returns a document without annotations, and an index with the chosen child only."""
    content: Manifest | Index
    if isinstance(document.content, Index):
        content = Index(child)
    else:
        layers = tuple(replace(layer, annotations={}) for layer in document.content.layers)
        content = Manifest(replace(document.content.config, annotations={}), layers)
    return replace(document, content=content, annotations={}, subject=None)
