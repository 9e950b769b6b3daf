"""Rows of the catalog as values."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from airside.core.problem import Problem
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import Document
from airside.oci.platform import Platform
from airside.oci.reference import Reference, Repository

STATES = (
    "settling",
    "incomplete",
    "queued",
    "importing",
    "imported",
    "partial",
    "rejected",
    "failed",
    "waiting",
    "unreadable",
    "removed",
)
KINDS = ("archive", "import", "push", "list", "peer")
JUDGED = ("imported", "partial", "rejected")
"""States in which the bytes of an archive were judged: unchanged, it is not read again.

A list that was pulled in part is.
"""


def name_of(repository: Repository, tag: str, digest: Digest) -> str:
    """How a claim or an image is called: by its tag, by its digest where it has none."""
    return str(Reference(repository, tag, None if tag else digest))


@dataclass(frozen=True, slots=True)
class SourceRow:
    """An archive as the catalog knows it."""

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
    """A name that an archive gives a document; the tag is empty for one without a name."""

    repository: Repository
    tag: str
    digest: Digest
    alias: str = ""

    @property
    def reference(self) -> str:
        return name_of(self.repository, self.tag, self.digest)


@dataclass(frozen=True, slots=True)
class RestoredTag:
    """Where `index.json` says that a tag points, and the source that it follows."""

    name: ClaimedName
    kind: str
    path: str
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class RestoredSource:
    """A source as `index.json` and the store speak of it: each claim with its sequence number.

    One that is `present` is read again when the watch sees it and keeps its sequence.
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
    """Every blob below the documents that is held, documents themselves included, with its size."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    on_removal: str = "unpin"
    not_brought: frozenset[Digest] = frozenset()
    """Documents that the archive only speaks of: the store held them already."""
    withheld: frozenset[tuple[Repository, str]] = frozenset()
    """Names that the archive gives to images that are not whole: what they were before stays."""
    keeps_claims: bool = False
    """True: nothing of this archive was taken, what it brought before stays."""
    pulled: tuple[tuple[str, str], ...] = ()
    """Of a list: (name, runtime) of each image that was pulled."""


@dataclass(frozen=True, slots=True)
class ListRow:
    """A list of images that is there: what was pulled of it, as (name, runtime)."""

    id: int
    path: str
    state: str
    pulled: frozenset[tuple[str, str]]

    def lacks(self, runtimes: Collection[str]) -> bool:
        """Whether something of it is to be pulled, as far as it can be told without reading it."""
        wanted = {(name, runtime) for name, _ in self.pulled for runtime in runtimes}
        return self.state != "imported" or not wanted <= self.pulled


@dataclass(frozen=True, slots=True)
class TagPart:
    """What a tag has for one platform, and from which archive.

    `behind`: another part of the tag was replaced since by a newer one, this one was not.
    """

    platform: str
    digest: str
    archive: str
    backed: bool
    behind: bool


@dataclass(frozen=True, slots=True)
class Generation:
    """A kept version of a tag, and the archive that it came from last."""

    digest: str
    source: str
    platforms: tuple[str, ...]
    at: float
    current: bool


@dataclass(frozen=True, slots=True)
class IndexClaim:
    """A source's word about a tag, as `index.json` keeps it where the tag alone doesn't tell."""

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
    """What `index.json` is to say at a generation of the repositories that changed.

    A changed repository without entries is gone from it.
    """

    generation: int
    changed: Collection[int]
    entries: Mapping[int, tuple[Repository, list[IndexEntry]]]
    archives: dict[str, int]
    deleted: list[tuple[str, str, str]]
    """What was deleted of archives: repository, tag (or `@digest`), path."""


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
    """The kind of what the tag follows: archive, import, push."""
    unbacked_since: float | None
    moved_at: float | None
    artifact_type: str = ""
    """Empty for an image."""
    origin: str = ""
    """Of a push: who sent it."""
    parts: tuple[TagPart, ...] = ()
    merged: bool = False
    """Whether the document is an index of ours, made of parts from several archives."""
    rolled_back: bool = False

    @property
    def name(self) -> tuple[Repository, str]:
        return (self.repository, self.tag)

    @property
    def mixed(self) -> bool:
        """Whether the tag's platforms are of different versions, as far as it can be told."""
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
    """A tag that points elsewhere since a transaction; an empty digest means that it is gone."""

    reference: str
    before: str
    after: str
