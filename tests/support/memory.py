"""The ports of `airside.ports.content` in memory. The contract suites run on them too."""

import io
import tempfile
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import BinaryIO

from airside.core.errors import NotFoundError, SizeMismatchError
from airside.oci.digest import BytesLike, Digest, digest_of, new_hasher
from airside.oci.model import Descriptor, Document, Manifest
from airside.oci.reference import Repository
from airside.ports.content import Ingest, ReferrersPage, StoredDocument, fitting_referrers


class MemoryIngest:
    """A blob being written into memory."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._hashed_bytes = 0
        self._written = bytearray()

    def hash(self, chunk: BytesLike) -> None:
        self._hasher.update(chunk)
        self._hashed_bytes += len(chunk)

    def write(self, chunk: BytesLike) -> None:
        self._written += chunk

    def finish(self) -> None:
        pass

    @property
    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hasher.hexdigest())

    @property
    def size_bytes(self) -> int:
        return self._hashed_bytes

    def open(self) -> BinaryIO:
        return io.BytesIO(bytes(self._written))

    def rehash(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._hasher.update(self._written)
        self._hashed_bytes = len(self._written)

    def discard(self) -> None:
        self._written.clear()

    def take(self) -> bytes:
        """What was written, if it is what was hashed."""
        data = bytes(self._written)
        if len(data) != self._hashed_bytes or digest_of(data, self._algorithm) != self.digest:
            raise SizeMismatchError(
                f"{len(data)} bytes were written, {self._hashed_bytes} hashed",
                blob=self.digest,
                expected=self._hashed_bytes,
                found=len(data),
            )
        return data


class MemoryStore:
    """A ContentStore in memory. `open` gives a temporary file, so that `sendfile` works.

    `files` are all that were ever opened: a test can look whether they were closed.
    """

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._lock = threading.Lock()
        self.files: list[BinaryIO] = []

    def add(self, data: bytes, algorithm: str = "sha256") -> Digest:
        """Hold these bytes at once."""
        digest = digest_of(data, algorithm)
        with self._lock:
            self._blobs.setdefault(digest, data)
        return digest

    @property
    def open_files(self) -> int:
        return sum(not file.closed for file in self.files)

    def stat(self, digest: Digest) -> int | None:
        data = self._blobs.get(digest)
        return None if data is None else len(data)

    def is_right(self, digest: Digest) -> bool:
        data = self._blobs.get(digest)
        return data is not None and digest_of(data, digest.algorithm) == digest

    def open(self, digest: Digest) -> BinaryIO:
        data = self._blobs.get(digest)
        if data is None:
            raise NotFoundError(f"blob {digest} is not held", blob=digest)
        file: BinaryIO = tempfile.TemporaryFile()  # type: ignore[assignment]  # noqa: SIM115
        file.write(data)
        file.seek(0)
        self.files.append(file)
        return file

    def ingest(self, algorithm: str = "sha256") -> MemoryIngest:
        return MemoryIngest(algorithm)

    def commit(self, ingests: Sequence[Ingest]) -> int:
        try:
            blobs = [(ingest.digest, _written(ingest)) for ingest in ingests]
        finally:
            for ingest in ingests:
                ingest.discard()
        with self._lock:
            before = len(self._blobs)
            for digest, data in blobs:
                self._blobs.setdefault(digest, data)
            return len(self._blobs) - before

    def delete(self, digest: Digest) -> int:
        with self._lock:
            return len(self._blobs.pop(digest, b""))

    def missing(self, descriptors: Iterable[Descriptor]) -> list[Descriptor]:
        return [d for d in descriptors if self.stat(d.digest) != d.size_bytes]

    def digests(self) -> Iterable[Digest]:
        return list(self._blobs)


def _written(ingest: Ingest) -> bytes:
    assert isinstance(ingest, MemoryIngest)
    ingest.finish()
    return ingest.take()


class MemoryView:
    """A RegistryView in memory. Every change makes the generation grow."""

    def __init__(self) -> None:
        self._generation = 1
        self._documents: dict[tuple[Repository, Digest], Document] = {}
        self._tags: dict[tuple[Repository, str], Digest] = {}
        self._blobs: set[tuple[Repository, Digest]] = set()
        self._quarantined: set[Digest] = set()
        self._lock = threading.Lock()

    def put(self, repository: Repository, document: Document, *tags: str) -> Document:
        """Hold a document, with what it lists, in a repository, and point tags at it."""
        with self._lock:
            self._documents[repository, document.digest] = document
            self._blobs.add((repository, document.digest))
            if isinstance(document.content, Manifest):
                self._blobs |= {(repository, blob.digest) for blob in document.content.blobs}
            self._tags |= {(repository, tag): document.digest for tag in tags}
            self._generation += 1
        return document

    def put_blob(self, repository: Repository, digest: Digest) -> None:
        with self._lock:
            self._blobs.add((repository, digest))
            self._generation += 1

    def remove_tag(self, repository: Repository, tag: str) -> None:
        with self._lock:
            self._tags.pop((repository, tag), None)
            self._generation += 1

    @property
    def generation(self) -> int:
        return self._generation

    def repositories(self) -> list[Repository]:
        with self._lock:
            keys = [*self._documents, *self._tags, *self._blobs]
        return sorted({repository for repository, _ in keys})

    def repositories_at(self, path: str) -> list[Repository]:
        return [repository for repository in self.repositories() if repository.path == path]

    def tags(self, repository: Repository) -> list[str]:
        with self._lock:
            return sorted(tag for holder, tag in self._tags if holder == repository)

    def document_by_tag(self, repository: Repository, tag: str) -> StoredDocument | None:
        digest = self._tags.get((repository, tag))
        return None if digest is None else self.document_by_digest(repository, digest)

    def document_by_digest(self, repository: Repository, digest: Digest) -> StoredDocument | None:
        found = self._documents.get((repository, digest))
        return found and StoredDocument(found.digest, found.media_type, found.raw)

    def holds_blob(self, repository: Repository, digest: Digest) -> bool:
        return (repository, digest) in self._blobs

    def quarantine(self, digest: Digest) -> None:
        with self._lock:
            self._quarantined.add(digest)
            self._generation += 1

    def any_quarantined(self, digests: Collection[Digest]) -> bool:
        return not self._quarantined.isdisjoint(digests)

    def referrers(self, repository: Repository, subject: Digest, after: str = "") -> ReferrersPage:
        with self._lock:
            held = [doc for (holder, _), doc in self._documents.items() if holder == repository]
        found = [
            Descriptor(
                media_type=doc.media_type,
                digest=doc.digest,
                size_bytes=doc.size_bytes,
                annotations=doc.annotations,
                artifact_type=_artifact_type(doc),
            )
            for doc in held
            if doc.subject is not None and doc.subject.digest == subject
        ]
        left = sorted((d for d in found if str(d.digest) > after), key=lambda d: str(d.digest))
        count = fitting_referrers([each.size_bytes for each in left])
        return ReferrersPage(tuple(left[:count]), more=count < len(left))


def _artifact_type(document: Document) -> str:
    """Distribution spec, "Listing Referrers": the config's type where the manifest has none."""
    if document.artifact_type or not isinstance(document.content, Manifest):
        return document.artifact_type
    return document.content.config.media_type
