"""The ports: what the parts of Airside ask of one another.

`ContentStore` keeps blobs, `RegistryView` is what the HTTP registry reads of the catalog, `Puller`
has a runtime pull images.
Implementations are elsewhere and never import one another. Each port has one contract test suite
in `tests/contract` that every implementation passes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from airside.oci.digest import BytesLike, Digest
from airside.oci.model import Descriptor
from airside.oci.reference import Repository


class Ingest(Protocol):
    """One blob being written under verification; not visible before `ContentStore.commit`.

    `hash` and `write` each take every chunk once and in order; they may be called from two
    different threads. Exactly one of `commit` (of the store) and `discard` ends it.
    """

    def hash(self, chunk: BytesLike) -> None:
        """Take a chunk into the digest."""

    def write(self, chunk: BytesLike) -> None:
        """Write a chunk. Raises StoreError, StorageFullError."""

    def finish(self) -> None:
        """All chunks are written: release the descriptor; start writing back. Idempotent."""

    @property
    def digest(self) -> Digest:
        """The digest of what was hashed so far."""

    @property
    def size_bytes(self) -> int:
        """How many bytes were hashed so far."""

    def open(self) -> BinaryIO:
        """Open what was written, for reading, before it is committed."""

    def discard(self) -> None:
        """Forget it; idempotent."""


class ContentStore(Protocol):
    """Blobs by digest. All methods are safe to call from any thread.

    What `stat` knows is verified and durable. Raises StoreError where the disk fails.
    """

    def stat(self, digest: Digest) -> int | None:
        """The size in bytes of a held blob, None for one that is not held."""

    def open(self, digest: Digest) -> BinaryIO:
        """Open a held blob for reading. The caller closes. Raises NotFoundError."""

    def ingest(self, algorithm: str = "sha256") -> Ingest:
        """Begin to write a blob."""

    def commit(self, ingests: Sequence[Ingest]) -> int:
        """Make finished ingests durable, then visible, all of them; returns how many were new.

        An ingest whose written bytes are not what was hashed raises SizeMismatchError and nothing
        is committed. Ends every ingest, also when it raises. A blob that is held already is kept
        as it is.
        """

    def delete(self, digest: Digest) -> int:
        """Forget a blob; returns the bytes freed on disk, 0 if it was not held."""

    def missing(self, descriptors: Iterable[Descriptor]) -> list[Descriptor]:
        """Those that are not held with the right size, in the order given."""

    def digests(self) -> Iterable[Digest]:
        """All held blobs, in no order."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A manifest or index as it is served: the bytes as they came."""

    digest: Digest
    media_type: str
    raw: bytes


class RegistryView(Protocol):
    """What the registry reads of the catalog. Thread-safe; never waits for writers.

    `generation` grows with each committed change, so that answers can be cached.
    """

    @property
    def generation(self) -> int: ...

    def repositories(self) -> list[Repository]:
        """All repositories that hold anything, sorted."""

    def repositories_at(self, path: str) -> list[Repository]:
        """The repositories with this path, of whatever host, sorted by host."""

    def tags(self, repository: Repository) -> list[str]:
        """The tags of a repository, sorted by bytes."""

    def document_by_tag(self, repository: Repository, tag: str) -> StoredDocument | None: ...

    def document_by_digest(
        self, repository: Repository, digest: Digest
    ) -> StoredDocument | None: ...

    def holds_blob(self, repository: Repository, digest: Digest) -> bool:
        """Whether the blob (layer, config, or document) belongs to the repository."""

    def referrers(self, repository: Repository, subject: Digest) -> list[Descriptor]:
        """Descriptors of manifests with this subject, with artifact type and annotations."""


class Puller(Protocol):
    """Has one runtime pull images, by its own mirrors and credentials. Thread-safe; may block."""

    @property
    def runtime(self) -> str:
        """Which runtime: one that has another text, or was wiped and got another, is another."""

    @property
    def is_available(self) -> bool:
        """Whether it answers now, and can pull. Never raises."""

    def has(self, name: str, *, stop: Callable[[], bool]) -> bool:
        """Whether the runtime has the image of this full name. Raises ContainerdError,
        StoppedError.
        """  # noqa: D205 - the errors are the point

    def pull(self, name: str, *, stop: Callable[[], bool]) -> str:
        """Pull and unpack an image, give its image ID.

        Raises PullRefusedError where a registry answered that it has no such image or gives it to
        nobody like us, ContainerdError where it could not be asked or its answer not be read (then
        `is_away` says whether it is the runtime that does not answer), StoppedError soon after
        `stop` says so.
        """


Pullers = Callable[[], Sequence[Puller]]
"""Gives one for each connected runtime."""
