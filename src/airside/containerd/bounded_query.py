"""One question about what containerd holds: its calls, together under one deadline.

What containerd says of a blob is asked once per query. Documents, which never change, are
remembered over questions, their presence is not. Where names point is remembered for a while: to
whom a blob belongs can cost a list of all images (10 ms for 300 of them; a filter by name takes
longer, since containerd compiles it again for each image).
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
from airside.oci.model import Descriptor, Document, Index, parse_bare_document
from airside.oci.reference import Repository

_MEMORY_BYTES = 2 * MIB
"""Raw bytes of the documents that are remembered; parsed they are some times larger."""
_SOURCE = "containerd.io/distribution.source."
_REMEMBERED_SECONDS = 30.0

_LOG = logging.getLogger("airside.containerd")

Found = TypeVar("Found")


class DocumentCache:
    """Verified documents by digest, as many as fit; the least used goes first. Thread-safe."""

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
    """Where the names of each repository pointed lately. Thread-safe."""

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
        """These are all that there are."""
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
    """Used by one thread. Every method may raise ContainerdError.

    `root` is containerd's content directory, if it may be read here. `hung`: one call used up
    more than half of the patience without an answer.
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
        """What the namespace says of a blob; None too for a file of another size."""
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
        except OSError:  # not ours to read, or of another mount namespace
            return found
        if size != found.size_bytes:
            _LOG.warning("%s has %d bytes, should have %d", path, size, found.size_bytes)
            return None
        return found

    def document(self, digest: Digest) -> Document | None:
        """A manifest or index: within the limits and with the right digest."""
        info = self.info(digest)
        if info is None or info.size_bytes > self.limits.document_bytes:
            return None
        found = self.documents.get(digest)
        if found is not None:
            return found
        raw = self._read(digest, info.size_bytes)
        if raw is None or digest_of(raw, digest.algorithm) != digest:
            _LOG.warning("containerd's blob %s is not what its name says", digest)
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
        """Bytes of a blob over gRPC; None if it went."""

        def read(seconds: float) -> bytes:
            chunks = self.client.content.read(
                digest, offset=offset, size_bytes=size_bytes, seconds=seconds
            )
            return b"".join(chunks)

        try:
            return self._call(read)
        except NotFoundError:
            return None

    def belongs(self, repository: Repository, digest: Digest) -> bool:
        """Whether a blob of the namespace is of the repository."""
        info = self.info(digest)
        label = info.labels.get(_SOURCE + repository.host, "") if info else ""
        if repository.path in label.split(","):
            return True
        if self._reaches(self.targets.of(repository), digest):
            return True
        records = self._call(lambda seconds: self.client.images.list(seconds=seconds), is_slow=True)
        self.targets.replace(records)
        return self._reaches(self.targets.of(repository), digest)

    def _reaches(self, level: Iterable[Descriptor], wanted: Digest) -> bool:
        """Whether `wanted` is one of these, or below one."""
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
        """(all that an image needs, None), or ([], what it lacks, if known).

        Of an index the first image that is whole counts: those of other platforms are as a rule
        not there.
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
            raise ContainerdError("containerd took too long", status="DEADLINE_EXCEEDED")
        try:
            return call(left)
        except ContainerdError as exc:
            late = exc.context.get("status") == "DEADLINE_EXCEEDED"
            self.hung = late and left > self.patience_seconds / 2 and not is_slow
            raise


def repository_of(name: str) -> str:
    """The name of an image without its tag and digest."""
    bare = name.partition("@")[0]
    head, colon, tag = bare.rpartition(":")
    return head if colon and "/" not in tag else bare


def blob_path(root: Path | None, digest: Digest) -> Path | None:
    """Where a content directory has a blob, if it has."""
    return root / "blobs" / digest.algorithm / digest.hex if root is not None else None
