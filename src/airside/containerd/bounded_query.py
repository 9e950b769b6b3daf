"""One query of what containerd holds: several calls under one deadline.

A blob's info is asked once per query. Documents never change, so they are remembered across
queries; their presence is not. The targets of names are remembered for a while: finding the
repository of a blob can cost a list of all images (10 ms for 300 images; a filter by name is
slower, since containerd compiles it again for each image).
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from airside.containerd.client import Client
from airside.containerd.services.content import BlobInfo
from airside.containerd.services.images import ImageRecord
from airside.core.errors import ContainerdError, ManifestInvalidError, NotFoundError
from airside.core.settings import MIB, Limits
from airside.oci.digest import Digest, digest_of, is_digest
from airside.oci.merge import attested_by
from airside.oci.model import Descriptor, Document, Index, Manifest, parse_bare_document
from airside.oci.reference import Repository
from airside.ports.content import Only

_MEMORY_BYTES = 2 * MIB
"""Raw bytes of the remembered documents; parsed they are some times larger."""
_SOURCE = "containerd.io/distribution.source."
_REMEMBERED_SECONDS = 30.0

_LOG = logging.getLogger("airside.containerd")

Found = TypeVar("Found")


class DocumentCache:
    """Verified documents by digest, within a limit in bytes (LRU). Thread-safe."""

    def __init__(self, limit_bytes: int = _MEMORY_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._documents: OrderedDict[Digest, Document] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: Digest) -> Document | None:
        with self._lock:
            found = self._documents.get(digest)
            if found is not None:
                self._documents.move_to_end(digest)
            return found

    def put(self, digest: Digest, document: Document) -> None:
        with self._lock:
            if digest in self._documents or document.size_bytes > self._limit_bytes // 4:
                return
            self._documents[digest] = document
            self._held_bytes += document.size_bytes
            while self._held_bytes > self._limit_bytes:
                self._held_bytes -= self._documents.popitem(last=False)[1].size_bytes


class TargetCache:
    """The recent targets of the names of each repository. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, dict[Digest, tuple[float, Descriptor]]] = {}
        self._lock = threading.Lock()

    def add(self, records: Iterable[ImageRecord]) -> None:
        until = self._clock() + _REMEMBERED_SECONDS
        with self._lock:
            for record in records:
                seen = self._seen.setdefault(repository_of(record.name), {})
                seen[record.target.digest] = until, record.target

    def replace(self, records: Iterable[ImageRecord]) -> None:
        """Replaces all targets by those of these records."""
        with self._lock:
            self._seen.clear()
        self.add(records)

    def of(self, repository: Repository) -> list[Descriptor]:
        now = self._clock()
        with self._lock:
            seen = self._seen.get(str(repository), {})
            return [target for until, target in seen.values() if now < until]


@dataclass(slots=True)
class BoundedQuery:
    """The calls of one query. Used by one thread. Every method may raise ContainerdError.

    `root` is containerd's content directory, None if it cannot be read here. `hung` is set when one
    call used up more than half of the patience without an answer.
    """

    client: Client
    root: Path | None
    limits: Limits
    documents: DocumentCache
    targets: TargetCache
    clock: Callable[[], float]
    patience_seconds: float
    hung: bool = False
    _deadline: float = field(init=False)
    _infos: dict[Digest, BlobInfo | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.patience_seconds

    def image(self, name: str) -> ImageRecord | None:
        found = self._call(lambda seconds: self.client.images.get(name, seconds=seconds))
        self.targets.add([found] if found is not None else [])
        return found

    def info(self, digest: Digest) -> BlobInfo | None:
        """Returns the info of a blob; None if absent, or if its file has another size."""
        if digest not in self._infos:
            self._infos[digest] = self._info(digest)
        return self._infos[digest]

    def _info(self, digest: Digest) -> BlobInfo | None:
        if not is_digest(str(digest)):
            return None
        found = self._call(lambda seconds: self.client.content.info(digest, seconds=seconds))
        path = blob_path(self.root, digest)
        if found is None or path is None:
            return found
        try:
            size = path.stat().st_size
        except OSError:  # not readable, or in another mount namespace
            return found
        if size != found.size_bytes:
            _LOG.warning("%s has %d bytes instead of %d; not served", path, size, found.size_bytes)
            return None
        return found

    def document(self, digest: Digest) -> Document | None:
        """Returns a manifest or index; None if absent, too large, or of another digest."""
        info = self.info(digest)
        if info is None or info.size_bytes > self.limits.document_bytes:
            return None
        found = self.documents.get(digest)
        if found is not None:
            return found
        raw = self._read(digest, info.size_bytes)
        if raw is None or digest_of(raw, digest.algorithm) != digest:
            _LOG.warning("containerd's blob %s does not match its digest; not served", digest)
            return None
        try:
            found = parse_bare_document(raw, str(digest), algorithm=digest.algorithm)
        except ManifestInvalidError:  # a config, for instance
            return None
        self.documents.put(digest, found)
        return found

    def _read(self, digest: Digest, size_bytes: int) -> bytes | None:
        path = blob_path(self.root, digest)
        if path is not None:
            try:
                return path.read_bytes()
            except OSError as exc:
                _LOG.debug("%s: %s", path, exc.strerror)
        return self.stream(digest, 0, size_bytes)

    def stream(self, digest: Digest, offset: int, size_bytes: int) -> bytes | None:
        """Returns bytes of a blob over gRPC; None if it was deleted meanwhile."""

        def read(seconds: float) -> bytes:
            chunks = self.client.content.read(
                digest, offset=offset, size_bytes=size_bytes, seconds=seconds
            )
            return b"".join(chunks)

        try:
            return self._call(read)
        except NotFoundError:
            return None

    def belongs(self, repository: Repository, digest: Digest, only: Only = None) -> bool:
        """Returns True if a blob of the namespace belongs to the repository.

        With `only` it must be of one of these images: the label of its repository is no proof.
        """
        info = self.info(digest)
        label = info.labels.get(_SOURCE + repository.host, "") if info else ""
        if only is None and repository.path in label.split(","):
            return True
        if self._reaches(self._targets(repository, only), digest):
            return True
        records = self._call(lambda seconds: self.client.images.list(seconds=seconds), is_slow=True)
        self.targets.replace(records)
        return self._reaches(self._targets(repository, only), digest)

    def _targets(self, repository: Repository, only: Only) -> list[Descriptor]:
        return [each for each in self.targets.of(repository) if self.is_among(each, only)]

    def is_among(self, target: Descriptor, only: Only, depth: int = 0) -> bool:
        """Returns True if an image is one of `only`: its target, manifest or config is."""
        if only is None or target.digest in only:
            return True
        document = self.document(target.digest) if target.is_document else None
        if document is None or depth > self.limits.nesting:
            return False
        if isinstance(document.content, Manifest):
            return document.content.config.digest in only
        return any(self.is_among(child, only, depth + 1) for child in document.content.manifests)

    def _reaches(self, level: Iterable[Descriptor], wanted: Digest) -> bool:
        """Returns True if `wanted` is one of these descriptors, or below one of them."""
        seen: set[Digest] = set()
        for _ in range(self.limits.nesting + 1):
            below: list[Descriptor] = []
            for each in level:
                if each.digest == wanted:
                    return True
                document = None
                if each.is_document and each.digest not in seen:
                    document = self.document(each.digest)
                seen.add(each.digest)
                below += document.children if document is not None else ()
            level = below
        return False

    def whole(
        self, digest: Digest, document: Document, depth: int = 0
    ) -> tuple[list[Digest], Digest | None]:
        """Returns (all digests that an image needs, None), or ([], the missing digest, if known).

        Of an index the first whole image counts: images of other platforms are usually absent.
        """
        if isinstance(document.content, Index):
            needs, lacks = self._whole_image(document.content, depth)
            return [digest, *needs] if needs else [], lacks
        for blob in document.content.blobs:
            info = self.info(blob.digest) if blob.is_distributable else None
            if blob.is_distributable and (info is None or info.size_bytes != blob.size_bytes):
                return [], blob.digest
        return [digest, *(b.digest for b in document.content.blobs)], None

    def _whole_image(self, index: Index, depth: int) -> tuple[list[Digest], Digest | None]:
        lacks: Digest | None = None
        images = [child for child in index.manifests if attested_by(child) is None]
        for child in (images or index.manifests) if depth < self.limits.nesting else ():
            below = self.document(child.digest) if child.is_document else None
            if below is None:
                lacks = lacks or child.digest
                continue
            needs, lacks = self.whole(child.digest, below, depth + 1)
            if needs:
                return needs, None
        return [], lacks

    def _call(self, call: Callable[[float], Found], *, is_slow: bool = False) -> Found:
        left = self._deadline - self.clock()
        if left <= 0:
            raise ContainerdError(
                f"containerd did not answer within {self.patience_seconds} s",
                status="DEADLINE_EXCEEDED",
            )
        try:
            return call(left)
        except ContainerdError as exc:
            late = exc.context.get("status") == "DEADLINE_EXCEEDED"
            self.hung = late and left > self.patience_seconds / 2 and not is_slow
            raise


def repository_of(name: str) -> str:
    """Returns the name of an image without its tag and digest."""
    bare = name.partition("@")[0]
    head, colon, tag = bare.rpartition(":")
    return head if colon and "/" not in tag else bare


def blob_path(root: Path | None, digest: Digest) -> Path | None:
    """Returns the path of a blob in a content directory; the file may be absent."""
    return root / "blobs" / digest.algorithm / digest.hex if root is not None else None
