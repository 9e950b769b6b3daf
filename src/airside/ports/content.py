"""The ports: what the parts of Airside ask of one another.

`ContentStore` keeps blobs, `RegistryView` is what the HTTP registry reads of the catalog,
`RuntimeContent` what it reads of a container runtime where the catalog has no answer, `Runtime`
is a container runtime that images are published to, `Puller` has one pull images, `RuntimeCopies`
are its own files of blobs, for repairs.
Implementations are elsewhere and never import one another. Each port has one contract test suite
in `tests/contract` that every implementation passes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from airside.oci.digest import BytesLike, Digest
from airside.oci.model import Descriptor
from airside.oci.reference import Repository
from airside.ports.publication import NamedImage, Publication


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

    def any_quarantined(self, digests: Collection[Digest]) -> bool:
        """Whether the bytes of one of these were found wrong, and are not replaced yet."""


@dataclass(frozen=True, slots=True)
class KeptTag:
    """Where a tag points; not `is_ours`: as an upstream registry says, of which it is a cache."""

    digest: Digest
    is_ours: bool


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What a connected runtime is, and how blobs went into it."""

    version: str
    server_id: str
    """Another one is another runtime, or one that was wiped."""
    knows_pins: bool
    has_cri: bool
    snapshotter: str
    unpacks: bool
    content_root: str
    why_streamed: str
    """Why blobs must be sent; empty where they are linked or copied."""
    ways: Mapping[str, int]
    """How many blobs went which way since it is connected: link, copy, stream, held."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did: blobs by the way that they went, and whether the image is unpacked."""

    ways: Mapping[str, int]
    unpacked: bool
    not_unpacked: str = ""
    """Why it can't be unpacked, where that is so."""


class Runtime(Protocol):
    """A container runtime that images are published to. Thread-safe.

    All calls raise ContainerdError where it is away or refuses; then it is connected anew.
    """

    @property
    def facts(self) -> RuntimeFacts: ...

    @property
    def content(self) -> "RuntimeContent | None":
        """What it holds, for the registry; None if it can't be read."""

    @property
    def copies(self) -> "RuntimeCopies | None":
        """Its own files of blobs, for repairs; None if they can't be had."""

    @property
    def puller(self) -> "Puller | None":
        """Has it pull images; None where it has no CRI."""

    def images(self) -> dict[str, NamedImage]:
        """Every name that it has, whoever made it."""

    def blobs(self) -> frozenset[str]:
        """The digests of all blobs that it holds."""

    def manifest_of(self, name: str) -> Digest | None:
        """The manifest that the runtime would run under a name, None if it has none."""

    def publish(self, publication: Publication, *, stop: Callable[[], bool]) -> Published:
        """Have an image there, whole, under all its names; idempotent.

        Raises VerificationError if a layer is not what the config says, StoreError if the store
        lost a blob, StoppedError.
        """

    def relabel(self, names: Mapping[str, Mapping[str, str]], image_id: str) -> None:
        """Set the labels of names that are there; the pin of the image with this ID follows."""

    def withdraw(self, names: Iterable[str], image_ids: Iterable[str]) -> frozenset[str]:
        """Delete names, and the images of these IDs that have no other and no container.

        Gives the IDs of those that a container still uses.
        """

    def changes(self) -> Iterable[str]:
        """The names that are created, updated or deleted from now on, until it is closed."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Connection:
    """The two ends of a client's TCP connection to us, each as (address, port)."""

    client: tuple[str, int]
    server: tuple[str, int]


@dataclass(frozen=True, slots=True)
class RuntimeTag:
    """Where a name of a container runtime points.

    `needs`: the document and all that is below it of one image that is whole; empty if none is,
    then `lacks` is a blob of it that is not there (discarded after unpacking, collected), if known.
    """

    document: StoredDocument
    needs: tuple[Digest, ...]
    lacks: Digest | None = None


@dataclass(frozen=True, slots=True)
class RuntimeBlob:
    """A blob of a container runtime. The caller closes what `open` gives.

    `open` raises NotFoundError if the blob went meanwhile, else UnavailableError; reading raises
    OSError. What it gives is a file, or where that can't be had only `seek` and `read` work.
    """

    size_bytes: int
    open: Callable[[], BinaryIO]


class RuntimeContent(Protocol):
    """What a container runtime holds, for reading. All methods are safe to call from any thread.

    Only what belongs to the repository is found: by the names of its images and what is below
    them, or because the runtime has noted that it came from there. Documents are verified and
    within `limits.document_bytes`, blobs are as the runtime verified them when it took them.
    Absent is None. UnavailableError, where the runtime is away or takes longer than a fraction of
    a second; once that happened the following calls raise it at once for a while.
    """

    def tag(self, repository: Repository, tag: str) -> RuntimeTag | None: ...

    def document(self, repository: Repository, digest: Digest) -> StoredDocument | None:
        """A manifest or index, whether or not what it lists is there."""

    def blob(self, repository: Repository, digest: Digest) -> RuntimeBlob | None:
        """A blob (layer, config, or document) that can be read."""

    def is_client(self, connection: Connection) -> bool:
        """Whether the runtime itself is the client; True also where that can't be told."""


class RuntimeCopies(Protocol):
    """A container runtime's own copies of blobs: what ours are repaired from, and they from ours.

    Thread-safe; may block. Raises UnavailableError where the runtime is away.
    """

    @property
    def runtime(self) -> str:
        """Names the runtime, for people."""

    def copy(self, digest: Digest) -> RuntimeBlob | None:
        """Its copy of a blob; the bytes are to be hashed: it may be the same file as ours."""

    def mend(self, digest: Digest) -> str:
        """Have its copy be as the store's, which is right; what it has unpacked stays as it is.

        Gives `right`, `replaced`, `absent`, or `wrong` for one that can't be replaced.
        """


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
