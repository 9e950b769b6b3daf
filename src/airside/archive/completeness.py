"""Judges which images of a plan are complete. Pure: values in, values out.

A manifest is complete if its config and all its layers are held with the right sizes;
non-distributable layers are excepted. An index is imported if at least one child is complete;
children whose documents are absent are absent platforms. A manifest that lacks blobs is reported
with the first missing ones and never gets a tag.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from airside.archive.formats.plan import Plan, PlannedImage
from airside.core.problem import Problem
from airside.oci.digest import Digest
from airside.oci.merge import attested_by, parts_of
from airside.oci.model import DOCUMENT_TYPES, Descriptor, Document, Index
from airside.oci.platform import Platform
from airside.oci.reference import Reference

SizeOf = Callable[[Digest], int | None]
"""Returns the size in bytes of a blob in this archive or in the store; None for neither."""

_SHOWN_MISSING = 3
_MOST_PROBLEMS = 1_000
"""Problems of one archive; each is a row of the catalog."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The part of a plan that is imported.

    `documents` are the complete ones of `images`, children before parents. `missing` is true if
    any problem is an absent blob or document, so that more bytes of the archive could help.
    """

    images: tuple[PlannedImage, ...]
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    missing: bool


def judge(plan: Plan, size_of: SizeOf, *, strict: bool = False) -> Judgement:
    """Decide which images of the plan are complete; with `strict`, any problem rejects all."""
    check = _CompletenessCheck(plan, size_of)
    complete = [image for image in plan.images if check.is_complete(image.root, image.title)]
    roots = {image.root for image in complete}
    for image in plan.images:
        if image.root not in plan.documents:
            check.absent_root(image)
        elif image.root not in roots:
            check.empty_index(image)
    problems = tuple(_few(chain(_problems_by_image(plan), check.problems)))
    if strict and problems:
        complete = []
    documents: dict[Digest, Document] = {}
    for image in complete:
        check.collect(image.root, documents)
    missing = check.missing or plan.lacks_members
    return Judgement(tuple(complete), tuple(documents.values()), problems, missing)


def _few(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Yields the first problems, and one that says that there are more."""
    yield from islice(problems, _MOST_PROBLEMS)
    if next(problems, None) is not None:
        yield Problem(f"there are more problems: only {_MOST_PROBLEMS} are recorded")


def first_absent(plan: Plan) -> Descriptor | None:
    """Returns a manifest or index that an index of the plan lists but whose document is absent."""
    for document in plan.documents.values():
        if isinstance(document.content, Index):
            for child in document.content.manifests:
                if child.media_type in DOCUMENT_TYPES and child.digest not in plan.documents:
                    return child
    return None


def name_clashes(plan: Plan) -> list[str]:
    """Returns a note for each name that several images have for one platform: the last counts."""
    images: dict[Reference, list[PlannedImage]] = {}
    for image in plan.images:
        for reference in image.references:
            images.setdefault(reference, []).append(image)
    notes = []
    platforms = _Platforms(plan)
    for reference, named in images.items():
        found = Counter(p for i in named if len(named) > 1 for p in platforms.of(i.root))
        if found and max(found.values()) > 1:
            notes.append(f"{len(named)} images have the name {reference}: the last one counts")
    return notes


@dataclass(slots=True)
class _Platforms:
    """The platforms of each root, which may have many names."""

    plan: Plan
    known: dict[Digest, frozenset[Platform]] = field(default_factory=dict)

    def of(self, root: Digest) -> frozenset[Platform]:
        if root not in self.known:
            parts = parts_of(root, self.plan.documents, self.plan.platforms)
            self.known[root] = frozenset(p.platform for p in parts if p.platform is not None)
        return self.known[root]


def _problems_by_image(plan: Plan) -> Iterator[Problem]:
    """Yields the plan's problems; one that rejects manifests once for each image above them."""
    titles = _titles_by_blob(plan)
    for problem in dict.fromkeys(plan.problems):
        costs = titles.get(problem.blob) if not problem.image else None
        if costs:
            yield from (replace(problem, image=title) for title in costs)
        else:
            yield problem


def _titles_by_blob(plan: Plan) -> dict[str, list[str]]:
    """Returns, for each blob that rejected manifests list, the images at or above them."""
    titles: dict[str, list[str]] = {}
    known: dict[Digest, frozenset[Digest]] = {}
    for image in plan.images if plan.rejected else ():
        found = _rejected_below(plan, image.root, known)
        blobs = {str(child.digest) for each in found for child in plan.documents[each].children}
        for blob in blobs:
            titles.setdefault(blob, []).append(image.title)
    return titles


def _rejected_below(
    plan: Plan, digest: Digest, known: dict[Digest, frozenset[Digest]]
) -> frozenset[Digest]:
    """Returns the rejected manifests at or below this document.

    `known` caches the results: an index may list the same index many times, at each level.
    """
    if digest not in known:
        document = plan.documents.get(digest)
        found: set[Digest] = set()
        if document is not None and isinstance(document.content, Index):
            for child in document.content.manifests:
                found |= _rejected_below(plan, child.digest, known)
        elif document is not None and digest in plan.rejected:
            found.add(digest)
        known[digest] = frozenset(found)
    return known[digest]


class _CompletenessCheck:
    def __init__(self, plan: Plan, size_of: SizeOf) -> None:
        self._plan, self._size_of = plan, size_of
        self._complete: dict[Digest, bool] = {}
        self.problems: list[Problem] = []
        self.missing = False
        self._reported = {problem.blob for problem in plan.problems}

    def is_complete(self, digest: Digest, title: str) -> bool:
        """Returns True if the document is complete. Judges it once, and adds its problems."""
        known = self._complete.get(digest)
        if known is None:
            document = self._plan.documents.get(digest)
            known = document is not None and self._judge(document, title)
            self._complete[digest] = known
        return known

    def _report(self, reason: str, title: str, blob: Digest, code: str) -> None:
        self.problems.append(Problem(reason, image=title, blob=str(blob), code=code))

    def _judge(self, document: Document, title: str) -> bool:
        if document.digest in self._plan.rejected:
            return False
        if isinstance(document.content, Index):
            children = document.content.manifests
            judged = [self._is_child_whole(child, title) for child in children]
            pairs = zip(children, judged, strict=True)
            images = [whole for child, whole in pairs if attested_by(child) is None]
            return any(images or judged)  # an index of attestations only
        return self._judge_manifest(document, title)

    def _is_child_whole(self, child: Descriptor, title: str) -> bool:
        """Returns True if the child is complete and has the type and size of this entry.

        Several indexes may list one document; clients trust the entry of the one that they pull.
        """
        document = self._plan.documents.get(child.digest)
        if document is None:
            return False
        found, said = (
            f"{each.media_type} of {each.size_bytes} bytes" for each in (document, child)
        )
        if found == said:
            return self.is_complete(child.digest, title)
        reason = (
            f"document {child.digest} is {found}; an index of the image lists it as {said:.200}"
        )
        self._report(reason, title, child.digest, "size_mismatch")
        return False

    def empty_index(self, image: PlannedImage) -> None:
        """Report an image without any of the manifests that its index lists, at any depth."""
        document = self._plan.documents[image.root]
        if not isinstance(document.content, Index) or self._lists_any(document.content):
            return
        self.missing = True
        reason = "none of the manifests that its index lists is in the archive"
        self._report(reason, image.title, image.root, "missing_blob")

    def _lists_any(self, index: Index) -> bool:
        """Returns True if the archive has any manifest below the index, attestations excepted."""
        todo, seen = [index], set[Digest]()
        while todo:
            for child in todo.pop().manifests:
                document = self._plan.documents.get(child.digest)
                if document is None or child.digest in seen or attested_by(child) is not None:
                    continue
                seen.add(child.digest)
                if not isinstance(document.content, Index):
                    return True
                todo.append(document.content)
        return False

    def _judge_manifest(self, document: Document, title: str) -> bool:
        whole = True
        absent: list[Digest] = []
        for blob in document.children:
            size = self._size_of(blob.digest)
            if size is None:
                if blob.is_distributable:
                    absent.append(blob.digest)
            elif size != blob.size_bytes:
                whole = False
                reason = f"blob {blob.digest} has {size} bytes; its manifest says {blob.size_bytes}"
                self._report(reason, title, blob.digest, "size_mismatch")
        for digest in absent[:_SHOWN_MISSING]:
            reason = f"blob {digest} is not in the archive ({len(absent)} missing in all)"
            self._report(reason, title, digest, "missing_blob")
        self.missing = self.missing or bool(absent)
        return whole and not absent

    def absent_root(self, image: PlannedImage) -> None:
        """Report an image whose root document is absent, unless the plan has reported it."""
        if str(image.root) not in self._reported:
            self.missing = True
            reason = f"document {image.root} is not in the archive"
            self._report(reason, image.title, image.root, "missing_blob")

    def collect(self, digest: Digest, into: dict[Digest, Document]) -> None:
        """Add this document and the complete ones below it to `into`, children first."""
        document = self._plan.documents[digest]
        if digest in into or not self._complete.get(digest):
            return
        if isinstance(document.content, Index):
            for child in document.content.manifests:
                if child.digest in self._plan.documents:
                    self.collect(child.digest, into)
        into[digest] = document
