"""The ports: Protocols between the rooms, and the values that they exchange.

`ContentStore` holds blobs. `RegistryView` is the registry's view of the catalog. `Runtime` is a
container runtime that images are published to; its `RuntimeContent` serves blobs that the catalog
lacks, its `RuntimeCopies` repair damaged ones, its `Puller` pulls images.

Implementations never import one another. `docs/ports.md` lists them; each port has one contract
test suite in `tests/contract` that every implementation passes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeAlias

from airside.core.settings import MIB
from airside.oci.digest import BytesLike, Digest
from airside.oci.model import Descriptor
from airside.oci.reference import Repository
from airside.ports.early_layers import EarlyUnpacking
from airside.ports.outcome import Change, Published
from airside.ports.publication import NamedImage, Publication
from airside.ports.unpacking_facts import UnpackingFacts


class Ingest(Protocol):
    """A blob being written under verification; not visible before `ContentStore.commit`.

    `hash` and `write` each get every chunk once and in order; two different threads may call them.
    Exactly one of `commit` (of the store) and `discard` ends an ingest.
    """

    def hash(self, chunk: BytesLike) -> None:
        """Adds a chunk to the digest."""

    def write(self, chunk: BytesLike) -> None:
        """Writes a chunk. Raises StoreError, StorageFullError."""

    def finish(self) -> None:
        """Closes the file after the last chunk and starts its write-back. Idempotent."""

    @property
    def digest(self) -> Digest:
        """The digest of the bytes hashed so far."""

    @property
    def size_bytes(self) -> int:
        """The number of bytes hashed so far."""

    def open(self) -> BinaryIO:
        """Opens the written bytes for reading, before the commit."""

    def discard(self) -> None:
        """Deletes the written bytes. Idempotent."""


class ContentStore(Protocol):
    """Blobs by digest. All methods are thread-safe.

    A blob that `stat` knows is verified and durable. Raises StoreError if the disk fails.
    """

    def stat(self, digest: Digest) -> int | None:
        """Returns the size of a stored blob in bytes, None if it is not stored."""

    def is_right(self, digest: Digest) -> bool:
        """Returns True if the stored bytes hash to the digest: hashes them unless it was lately.

        Raises StoppedError if the process is asked to stop meanwhile.
        """

    def open(self, digest: Digest) -> BinaryIO:
        """Opens a stored blob for reading. The caller closes it. Raises NotFoundError."""

    def ingest(self, algorithm: str = "sha256") -> Ingest:
        """Begins to write a blob."""

    def commit(self, ingests: Sequence[Ingest]) -> int:
        """Makes finished ingests durable, then visible, all of them. Returns how many were new.

        Raises SizeMismatchError, and commits nothing, if the written bytes of an ingest are not
        those that were hashed. Ends every ingest, also when it raises. A blob that is stored
        already stays as it is if its bytes are right, and is replaced if they are not.
        """

    def delete(self, digest: Digest) -> int:
        """Deletes a blob. Returns the bytes freed on disk, 0 if it was not stored."""

    def missing(self, descriptors: Iterable[Descriptor]) -> list[Descriptor]:
        """Returns those whose blobs are not stored with the right size, in the given order."""

    def digests(self) -> Iterable[Digest]:
        """Returns the digests of all stored blobs, in no order."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A manifest or index with its original bytes."""

    digest: Digest
    media_type: str
    raw: bytes


class RegistryView(Protocol):
    """The registry's view of the catalog. Thread-safe; never waits for writers.

    `generation` grows with each committed change, so that answers can be cached.
    """

    @property
    def generation(self) -> int: ...

    def repositories(self) -> list[Repository]:
        """Returns all repositories with content, sorted."""

    def repositories_at(self, path: str) -> list[Repository]:
        """Returns the repositories with this path, of any host, sorted by host."""

    def tags(self, repository: Repository) -> list[str]:
        """Returns the tags of a repository, sorted by bytes."""

    def document_by_tag(self, repository: Repository, tag: str) -> StoredDocument | None: ...

    def document_by_digest(
        self, repository: Repository, digest: Digest
    ) -> StoredDocument | None: ...

    def holds_blob(self, repository: Repository, digest: Digest) -> bool:
        """Returns True if the blob (layer, config, or document) belongs to the repository."""

    def referrers(
        self, repository: Repository, subject: Digest, after: str = ""
    ) -> "ReferrersPage":
        """Returns the manifests with this subject, with artifact type and annotations.

        In the order of their digests, those after one, as many as `fitting_referrers` says.
        """

    def any_quarantined(self, digests: Collection[Digest]) -> bool:
        """Returns True if one of these blobs is damaged and not yet repaired."""


MOST_REFERRERS = 1_000
_REFERRERS_BYTES = MIB
"""The manifests whose annotations one page lists; a single larger one is a page of its own."""


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """A page of referrers; `more`: others follow."""

    items: tuple[Descriptor, ...] = ()
    more: bool = False


def fitting_referrers(sizes: Sequence[int]) -> int:
    """Returns how many of the next referrers fit a page, by the bytes of their manifests."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count == MOST_REFERRERS or (count and total > _REFERRERS_BYTES):
            return count
    return len(sizes)


@dataclass(frozen=True, slots=True)
class KeptTag:
    """A tag's digest. `is_ours` is false if the tag is only cached from an upstream registry."""

    digest: Digest
    is_ours: bool


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """The facts of a connected runtime, and how blobs were placed in it."""

    version: str
    server_id: str
    """The identity of the runtime; it changes if the runtime is wiped."""
    knows_pins: bool
    has_cri: bool
    snapshotter: str
    unpacks: bool
    content_root: str
    why_streamed: str
    """Why blobs must be sent; empty if they are linked or copied."""
    why_copied: str
    """Why blobs were copied; empty if all could be linked."""
    ways: Mapping[str, int]
    """The number of blobs placed each way since the connection: link, copy, stream, held."""
    unpacking: UnpackingFacts = field(default_factory=UnpackingFacts)


@dataclass(frozen=True, slots=True)
class OtherAgent:
    """The agent that publishes to a runtime instead of us. Unknown parts are empty or 0."""

    identity: str = ""
    data: str = ""
    pid: int = 0
    """In the PID namespace of that agent."""

    def __str__(self) -> str:
        known = [self.data and f"data directory {self.data}", self.pid and f"process {self.pid}"]
        return ", ".join(map(str, filter(None, known))) or "unknown"


class Runtime(Protocol):
    """A container runtime that images are published to. Thread-safe.

    All calls raise ContainerdError if the runtime is away or refuses; the caller then closes this
    connection and makes a new one.
    """

    @property
    def facts(self) -> RuntimeFacts: ...

    @property
    def content(self) -> "RuntimeContent | None":
        """The content of the runtime, for the registry; None if it cannot be read."""

    @property
    def copies(self) -> "RuntimeCopies | None":
        """The runtime's own files of blobs, for repairs; None if they cannot be reached."""

    @property
    def early(self) -> EarlyUnpacking | None:
        """Unpacks layers while their archive is read; None if it cannot."""

    @property
    def puller(self) -> "Puller | None":
        """Pulls images with this runtime; None if it has no CRI."""

    def claim(self) -> OtherAgent | None:
        """Claims the runtime for publishing. Returns the living agent that has it, None if we do.

        To be repeated before each pass. The claim ends with the connection.
        """

    def pass_ended(self) -> None:
        """Tells that a pass has ended: what was unpacked early and is not published goes."""

    def images(self) -> dict[str, NamedImage]:
        """Returns every name in the runtime, whoever made it."""

    def blobs(self) -> frozenset[str]:
        """Returns the digests of all blobs in the runtime."""

    def manifest_of(self, name: str) -> Digest | None:
        """Returns the manifest that the runtime would run under a name, None if there is none."""

    def publish(self, publication: Publication, *, stop: Callable[[], bool]) -> Published:
        """Publishes an image, whole, under all its names. Idempotent.

        Raises VerificationError if a layer is not what the config says, StoreError if the store
        lost a blob, StoppedError.
        """

    def relabel(self, names: Mapping[str, Mapping[str, str]], image_id: str) -> None:
        """Sets the labels of existing names; the pin of the image with this ID follows."""

    def withdraw(self, names: Iterable[str], image_ids: Iterable[str]) -> frozenset[str]:
        """Deletes names, and the images of these IDs that have no other name and no container.

        A name by digest stays while a container uses its image. Returns the names and the IDs that
        stay so.
        """

    def unpacked(self) -> frozenset[str]:
        """Returns the chain IDs of all unpacked layers."""

    def wanted(self) -> frozenset[str]:
        """Returns names, IDs and digests of images that pods want.

        Of the sandbox, of containers, of static pods, and of pulls that run.
        """

    def has_starting_pod(self) -> bool:
        """Returns True if a pod has begun without a container: it may wait for any image."""

    def changes(self) -> Iterable[Change]:
        """Yields each name created, updated or deleted, and each container created or deleted.

        Ends when the runtime is closed.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Connection:
    """The two ends of a client's TCP connection to us, each as (address, port)."""

    client: tuple[str, int]
    server: tuple[str, int]


@dataclass(frozen=True, slots=True)
class RuntimeTag:
    """The target of a name in a container runtime.

    `needs` is the document and everything below it of one whole image. It is empty if no image is
    whole; then `lacks` is a missing blob (discarded after unpacking, or deleted by GC), if known.
    """

    document: StoredDocument
    needs: tuple[Digest, ...]
    lacks: Digest | None = None


@dataclass(frozen=True, slots=True)
class RuntimeBlob:
    """A blob of a container runtime. The caller closes what `open` returns.

    `open` raises NotFoundError if the blob was deleted meanwhile, else UnavailableError; reading
    raises OSError. It returns a file; without access to files, an object with `seek` and `read`
    only.
    """

    size_bytes: int
    open: Callable[[], BinaryIO]


Only: TypeAlias = frozenset[Digest] | None
"""The images that count, by the digest of their target, manifest or config; None: all."""


class RuntimeContent(Protocol):
    """The content of a container runtime, for reading. All methods are thread-safe.

    Only content that belongs to the repository is found: by the names of its images and what is
    below them, or by the runtime's record of the repository that a blob came from. Documents are
    verified and within `limits.document_bytes`; blobs are as the runtime verified them when it
    received them. None means absent. Raises UnavailableError if the runtime is away or takes longer
    than a fraction of a second; after that, calls raise it at once for a while.
    """

    def tag(self, repository: Repository, tag: str, only: Only = None) -> RuntimeTag | None: ...

    def document(
        self, repository: Repository, digest: Digest, only: Only = None
    ) -> StoredDocument | None:
        """Returns a manifest or index, also if the blobs that it lists are missing."""

    def blob(self, repository: Repository, digest: Digest, only: Only = None) -> RuntimeBlob | None:
        """Returns a readable blob (layer, config, or document)."""

    def is_client(self, connection: Connection) -> bool:
        """Returns True if the runtime itself is the client, or if that is unknown."""


class RuntimeCopies(Protocol):
    """A container runtime's own copies of blobs: repairs of our store read them, and repair them.

    Thread-safe; may block. Raises UnavailableError if the runtime is away.
    """

    @property
    def runtime(self) -> str:
        """The name of the runtime in logs and reports."""

    def copy(self, digest: Digest) -> RuntimeBlob | None:
        """Returns the runtime's copy of a blob. Hash it: it may be the same file as ours."""

    def mend(self, digest: Digest) -> str:
        """Makes the runtime's copy equal the store's, which is right. Snapshots stay as they are.

        Returns `right`, `replaced`, `absent`, or `wrong` for a copy that cannot be replaced.
        """


class Puller(Protocol):
    """Pulls images with one runtime, by its own mirrors and credentials. Thread-safe; may block."""

    @property
    def runtime(self) -> str:
        """The identity of the runtime: another text is another runtime, or one that was wiped."""

    @property
    def is_available(self) -> bool:
        """True if the runtime answers now and can pull. Never raises."""

    def has(self, name: str, *, stop: Callable[[], bool]) -> bool:
        """Returns True if the runtime has the image of this full name.

        Raises ContainerdError, StoppedError.
        """

    def pull(self, name: str, *, stop: Callable[[], bool]) -> str:
        """Pulls and unpacks an image. Returns its image ID.

        Raises PullRefusedError if a registry answered that it has no such image or refuses us;
        ContainerdError if the registry could not be reached or its answer not be read (`is_away` is
        true if the runtime itself does not answer); StoppedError soon after `stop` returns True.
        """
