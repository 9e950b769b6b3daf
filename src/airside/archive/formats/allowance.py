"""The allowance of one archive: what its documents may list, counted while they are read. Pure.

The memory of a plan and the rows that the catalog records for it grow with what is counted here,
and never with the number of ways in which documents lead to one another.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from airside.core.errors import ArchiveLimitError
from airside.core.settings import Limits
from airside.oci.model import Document

_DESCRIPTOR_BYTES, _NAME_BYTES = 400, 600
"""What one takes in memory; measured, without its annotations."""


class LargePlan(Exception):  # noqa: N818 - a signal to the caller, not an error
    """The plan takes more than `small_bytes`: make it again, in the place of a large one."""


@dataclass(slots=True)
class Allowance:
    """Counts what the documents of one archive list. Each `take_…` raises ArchiveLimitError."""

    limits: Limits = field(default_factory=Limits)
    small_bytes: int | None = None
    """The memory of a plan above which `LargePlan` is raised; None: never."""
    base: "Allowance | None" = None
    """The allowance whose `small_bytes` counts, if not its own."""
    _document_bytes: int = 0
    _parsed_bytes: int = 0
    _descriptors: int = 0
    _names: int = 0

    def take_document(self, document: Document, image: str) -> None:
        """Counts a document that stays in memory, and the descriptors that it lists."""
        self.take_bytes(document.size_bytes, image)
        self.take_descriptors(len(document.children), image)
        lists = (document.annotations, *(child.annotations for child in document.children))
        self.take_parsed(sum(map(_memory_of, lists)), image)

    def take_bytes(self, count: int, image: str) -> None:
        """Counts the bytes of a document that is read or made."""
        self._document_bytes += count
        if self._document_bytes > self.limits.documents_bytes:
            what = "the documents of the archive have more bytes together"
            raise over(what, "documents_bytes", self.limits, image)

    def take_parsed(self, count: int, image: str) -> None:
        """Counts the memory of parsed texts, which may be more than their bytes."""
        self._parsed_bytes += count
        if self._parsed_bytes > self.limits.documents_bytes:
            what = "the annotations and fields of the archive's documents take more memory"
            raise over(what, "documents_bytes", self.limits, image)
        self._check_small()

    def take_descriptors(self, count: int, image: str) -> None:
        """Counts configs, layers, manifests and diff IDs, each time that a document lists them."""
        self._descriptors += count
        if self._descriptors > self.limits.descriptors:
            what = "the documents of the archive list more layers, manifests and diff IDs"
            raise over(what, "descriptors", self.limits, image)
        self._check_small()

    def take_names(self, count: int, image: str) -> None:
        """Counts the names of images; an image without a name counts as one."""
        self._names += count
        if self._names > self.limits.names:
            raise over("the archive has more image names", "names", self.limits, image)
        self._check_small()

    def again(self) -> "Allowance":
        """Returns a new allowance with the same limits: other documents are read instead."""
        return Allowance(self.limits, base=self)

    def is_drafted(self) -> None:
        """The plan stays as it is, large or not; what assembling it adds is bounded."""
        self.small_bytes = None

    def _check_small(self) -> None:
        memory = self._document_bytes + self._parsed_bytes
        memory += self._descriptors * _DESCRIPTOR_BYTES + self._names * _NAME_BYTES
        most = (self.base or self).small_bytes
        if most is not None and memory > most:
            raise LargePlan


def over(what: str, limit: str, limits: Limits, image: str = "") -> ArchiveLimitError:
    """Returns the error for an exceeded limit; `what` is the beginning of its message."""
    return ArchiveLimitError(
        f"{what} than limits.{limit} allows ({getattr(limits, limit)}); raise the limit if you "
        "trust the archive",
        image=image[:300],
        limit=f"limits.{limit}",
    )


def _memory_of(annotations: Mapping[str, str]) -> int:
    if not annotations:
        return 0
    texts = (text for pair in annotations.items() for text in pair)
    return sys.getsizeof(annotations) + sum(map(sys.getsizeof, texts))
