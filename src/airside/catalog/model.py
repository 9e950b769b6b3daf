"""Values of the catalog: its rows, and what is recorded in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from airside.core.problem import Problem
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import Document
from airside.oci.platform import Platform
from airside.oci.reference import Reference, Repository

KINDS = ("archive", "import", "push", "list", "peer")
IGNORED = "ignored"
"""The state of a file that is no archive and is not meant to be one, as its kind says."""
JUDGED = ("imported", "partial", "rejected", IGNORED)
"""States in which the bytes of an archive were judged: an unchanged one is not imported again.

A list that was pulled in part is pulled again.
"""


def name_of(repository: Repository, tag: str, digest: Digest) -> str:
    """Returns the name of a claim or an image: by tag, or by digest if it has no tag."""
    return str(Reference(repository, tag, None if tag else digest))


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source: an archive, a list, an import by hand, a push, or a name from upstream."""

    id: int
    kind: str
    path: str
    stat_key: str
    sequence: int
    state: str
    reason: str
    format: str
    compression: str
    size_bytes: int
    settled_at: float
    changed_at: float
    imported_at: float | None
    seconds: float | None
    images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimedName:
    """A name that a source gives a document; the tag is empty for an unnamed one."""

    repository: Repository
    tag: str
    digest: Digest
    alias: str = ""

    @property
    def reference(self) -> str:
        return name_of(self.repository, self.tag, self.digest)


@dataclass(frozen=True, slots=True)
class RestoredTag:
    """A tag of `index.json`, and the source that it follows."""

    name: ClaimedName
    kind: str
    path: str
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class RestoredSource:
    """A source read from `index.json` and the store: each claim with its sequence number.

    A `present` one is imported again when the watch sees it, and keeps its sequence number.
    """

    kind: str
    path: str
    sequence: int
    present: bool
    claims: tuple[tuple[ClaimedName, int], ...]
    documents: tuple[Document, ...]
    platforms: Mapping[Digest, Platform]
    blobs: Mapping[Digest, int]


@dataclass(frozen=True, slots=True)
class Import:
    """The result of reading one archive, as recorded in one transaction."""

    source_id: int
    state: str
    stat_key: str
    plan_digest: str
    format: str
    compression: str
    seconds: float
    claims: tuple[ClaimedName, ...]
    documents: tuple[Document, ...]
    platforms: Mapping[Digest, Platform]
    blobs: Mapping[Digest, int]
    """Every held blob below the documents and the documents themselves, with its size in bytes."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    on_removal: str = "unpin"
    already_held: frozenset[Digest] = frozenset()
    """Documents that the archive only refers to: the store held them already."""
    withheld: frozenset[tuple[Repository, str]] = frozenset()
    """Names that the archive gives to incomplete images: the earlier claims on these stay."""
    keeps_claims: bool = False
    """True if nothing of this archive was recorded: its earlier claims stay."""
    pulled: tuple[tuple[str, str], ...] = ()
    """(name, runtime) of each image of a list that was pulled."""


NOTHING_READ = Import(
    source_id=0,
    state="",
    stat_key="",
    plan_digest="",
    format="",
    compression="",
    seconds=0.0,
    claims=(),
    documents=(),
    platforms={},
    blobs={},
    keeps_claims=True,
)
"""What a file gives from which no image was read: to be completed (`dataclasses.replace`)."""


@dataclass(frozen=True, slots=True)
class ListRow:
    """A present list of images: the (name, runtime) pairs that were pulled."""

    id: int
    path: str
    state: str
    pulled: frozenset[tuple[str, str]]

    def lacks(self, runtimes: Collection[str]) -> bool:
        """Returns True if an image of the list may have to be pulled, without reading the list."""
        wanted = {(name, runtime) for name, _ in self.pulled for runtime in runtimes}
        return self.state != "imported" or not wanted <= self.pulled


@dataclass(frozen=True, slots=True)
class TagPart:
    """A tag's manifest for one platform, and its archive.

    `behind`: a newer archive replaced another part of the tag since, but not this one.
    """

    platform: str
    digest: str
    archive: str
    backed: bool
    behind: bool


@dataclass(frozen=True, slots=True)
class Generation:
    """A kept version of a tag, and the archive that it last came from."""

    digest: str
    source: str
    platforms: tuple[str, ...]
    at: float
    current: bool


@dataclass(frozen=True, slots=True)
class IndexClaim:
    """A claim in `index.json`, written where the tag alone does not imply it."""

    kind: str
    path: str
    sequence: int
    digest: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A name in `index.json`: `reference` has no tag for an unnamed document."""

    reference: str
    sequence: int
    digest: str
    media_type: str
    size_bytes: int
    kind: str
    source: str
    rolled_back: bool
    claims: tuple[IndexClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexChanges:
    """The content of `index.json` at a generation, for the repositories that changed.

    A changed repository without entries was deleted.
    """

    generation: int
    changed: Collection[int]
    entries: Mapping[int, tuple[Repository, list[IndexEntry]]]
    archives: dict[str, int]
    deleted: list[tuple[str, str, str]]
    """Deleted names of archives: repository, tag (or `@digest`), path."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A name that can be pulled."""

    repository: Repository
    tag: str
    digest: str
    media_type: str
    platforms: tuple[str, ...]
    size_bytes: int
    archives: tuple[str, ...]
    source: str
    """The kind of the source that the tag follows: archive, import, push."""
    unbacked_since: float | None
    moved_at: float | None
    artifact_type: str = ""
    """Empty for an image."""
    origin: str = ""
    """The client of a push."""
    parts: tuple[TagPart, ...] = ()
    merged: bool = False
    """True if the document is an index merged here from parts of several archives."""
    rolled_back: bool = False

    @property
    def name(self) -> tuple[Repository, str]:
        return (self.repository, self.tag)

    @property
    def is_published(self) -> bool:
        """True if runtimes get it: a tag that is not cached from an upstream registry."""
        return bool(self.tag) and self.source != "peer"

    @property
    def mixed(self) -> bool:
        """True if the tag's platforms are known to be of different versions."""
        return any(part.behind for part in self.parts)

    @property
    def reference(self) -> str:
        return name_of(self.repository, self.tag, parse_digest(self.digest))


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    at: float
    kind: str
    path: str
    reference: str
    digest: str
    detail: str


@dataclass(frozen=True, slots=True)
class TagMove:
    """A tag that a transaction moved; an empty digest means that it is absent."""

    reference: str
    before: str
    after: str
