"""The plan of an archive: values that planners make and the importer carries out. Pure.

A planner works in two steps, because a compressed archive is read once, and of a plain one only
needed members are read. `Draft.members` lists the members with needed blobs. Once their digests and
sizes are known (`Facts`), `Draft.assemble` makes the `Plan`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from airside.core.errors import ManifestInvalidError
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.oci.platform import Platform
from airside.oci.reference import Reference, Repository

T = TypeVar("T")
DOCKER_ARCHIVE, OCI_LAYOUT = "docker-archive", "oci-layout"


@dataclass(frozen=True, slots=True)
class Facts:
    """A member's bytes as they were read: digest, size in bytes, and its first 16 bytes."""

    digest: Digest
    size_bytes: int
    head: bytes


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """A root document with its names. Without references it is reachable by digest only."""

    root: Digest
    references: tuple[Reference, ...] = ()
    shown: str = ""
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """Names that are only a tag: the archive does not name their repository."""
    is_supplement: bool = False
    """True if the archive says that its name is that of the image that it belongs to."""
    beside: tuple[Repository, ...] = ()
    """Repositories of names that another image keeps: this one is reachable there by digest."""
    beside_tag: bool = False
    """The same for a name that is only a tag, whose repository is a setting."""

    @property
    def title(self) -> str:
        """The name of the image in messages."""
        return self.shown or (str(self.references[0]) if self.references else str(self.root))


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A layer that no digest in the archive verifies; its diff ID does, once decompressed."""

    layer: Digest
    diff_id: Digest
    member: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Images, their documents, and the member of each blob. Completeness is judged later."""

    format: str
    images: tuple[PlannedImage, ...]
    documents: Mapping[Digest, Document]
    blobs: Mapping[Digest, str]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    platforms: Mapping[Digest, Platform] = field(default_factory=dict)
    packed_layers: tuple[PackedLayer, ...] = ()
    rejected: frozenset[Digest] = frozenset()
    made: Mapping[Digest, bytes] = field(default_factory=dict)
    """Blobs that no member holds: configs made from the documents of an older form."""
    lacks_members: bool = False
    """True if the archive names members that it lacks, perhaps because it ends early."""
    unwanted: tuple[str, ...] = ()
    """Notes on images without a platform that the watched directory selects."""


def drop_ambiguous(
    images: Iterable[PlannedImage],
) -> tuple[tuple[PlannedImage, ...], list[Problem]]:
    """Drop the names that several images claim. Returns the images, and a problem for each name.

    Used if two records of the names disagree: one of the claims is then a damaged other name.
    """
    images = tuple(images)
    claims = Counter(reference for image in images for reference in set(image.references))
    unambiguous = tuple(
        replace(image, references=tuple(r for r in image.references if claims[r] == 1))
        for image in images
    )
    reason = "several images have this name, and another name was lost: the archive is damaged"
    return unambiguous, [Problem(reason, image=str(name)) for name, n in claims.items() if n > 1]


def parse_each(
    items: Iterable[Any],
    parse: Callable[[Any, int], T],
    shown: Callable[[Any], str],
    problems: list[Problem],
) -> tuple[T, ...]:
    """Parse each entry of a list by itself. An invalid one is a problem of the image it names.

    Returns the valid ones. Raises the first ManifestInvalidError if none is valid.
    """
    found: list[T] = []
    errors: list[ManifestInvalidError] = []
    for number, item in enumerate(items):
        try:
            found.append(parse(item, number))
        except ManifestInvalidError as exc:
            errors.append(exc)
            problems.append(Problem(exc.message, image=shown(item), code=exc.code))
    if errors and not found:
        raise errors[0]
    return tuple(found)


class Draft(Protocol):
    """A plan whose blobs are not yet hashed."""

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members that hold needed blobs, in archive order of need, each once."""

    def expected(self, read: "ReadMember") -> Mapping[str, Digest]:
        """Returns the digests that members should have, as far as known before reading them."""

    def assemble(self, facts: Mapping[str, Facts], read: "ReadMember") -> Plan:
        """Make the plan. `facts` has every name of `members`. Raises ManifestInvalidError."""


ReadMember = Callable[[str], bytes]
"""Returns the whole content of a small member. Raises ArchiveLimitError for a large one."""

ReadHeld = Callable[[Digest], bytes | None]
"""Returns a document that the catalog holds already, or None."""

_SKIPPABLE = bytes(range(0x50, 0x60))
_MAGIC = {
    "gzip": b"\x1f\x8b\x08",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "lz4": b"\x04\x22\x4d\x18",
}


def layer_compression(head: bytes) -> str:
    """Returns the compression of a layer with these first bytes; "" for a plain tar.

    Knows every method that image tools use. A skippable frame counts as zstd, as in containerd
    (RFC 8878, 3.1.2).
    """
    for name, magic in _MAGIC.items():
        if head.startswith(magic):
            return name
    return "zstd" if head[1:4] == b"\x2a\x4d\x18" and head[0] in _SKIPPABLE else ""


def not_runnable_note(layer: str, compression: str) -> str:
    """Returns a note for a layer that no runtime unpacks, else "".

    Runtimes unpack tar, gzip and zstd (image-spec, layer.md).
    """
    if compression not in {"bzip2", "xz", "lz4"}:
        return ""
    return (
        f"layer {layer} is compressed with {compression}: the image is stored and served, but "
        "containerd and Docker cannot run it"
    )


def is_compressed(head: bytes) -> bool:
    """Returns True if a layer with these first bytes is compressed, by any known method."""
    return bool(layer_compression(head))
