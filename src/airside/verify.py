"""Complete and true? The judgement over a plan. Pure: values in, values out.

Completeness is judged per *manifest* (design 4.9): its config and all its layers are held with
the right sizes, non-distributable layers excepted. An index is kept if at least one child is
complete; children whose documents are absent are absent platforms. A manifest that lacks blobs is
reported with the first missing ones and never gets a tag.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from airside.archive.plan import Plan, PlannedImage, Problem
from airside.oci.digest import Digest
from airside.oci.model import Document, Index

SizeOf = Callable[[Digest], int | None]
"""The size in bytes of a blob that this archive brings or the store holds; None for neither."""

_SHOWN_MISSING = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    """What of a plan is taken.

    `documents` are the complete ones of the images kept, children before parents; `missing` tells
    whether any problem is that something is not (yet) there, so that more bytes could help.
    """

    images: tuple[PlannedImage, ...]
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    missing: bool


def judge(plan: Plan, size_of: SizeOf, *, strict: bool = False) -> Judgement:
    """Decide which images of the plan are complete."""
    judging = _Judging(plan, size_of)
    kept = [image for image in plan.images if judging.is_complete(image.root, image.title)]
    for image in plan.images:
        if image.root not in plan.documents:
            judging.absent_root(image)
    problems = (*_problems_by_image(plan), *judging.problems)
    if strict and problems:
        kept = []
    documents: dict[Digest, Document] = {}
    for image in kept:
        judging.collect(image.root, documents)
    return Judgement(tuple(kept), tuple(documents.values()), problems, judging.missing)


def _problems_by_image(plan: Plan) -> Iterator[Problem]:
    """The plan's problems; one that rejects manifests is told for each image that it costs."""
    for problem in plan.problems:
        known: dict[Digest, bool] = {}
        titles = [
            image.title
            for image in plan.images
            if not problem.image and _is_rejected_for(plan, problem.blob, image.root, known)
        ]
        if titles:
            yield from (replace(problem, image=title) for title in titles)
        else:
            yield problem


def _is_rejected_for(plan: Plan, blob: str, digest: Digest, known: dict[Digest, bool]) -> bool:
    """Whether at or below this document a manifest is rejected that lists the blob.

    `known` has the answers so far: an index may list the same index many times, at each level.
    """
    if digest not in known:
        document = plan.documents.get(digest)
        if document is None:
            known[digest] = False
        elif isinstance(document.content, Index):
            children = [child.digest for child in document.content.manifests]
            known[digest] = any(_is_rejected_for(plan, blob, child, known) for child in children)
        else:
            listed = any(str(child.digest) == blob for child in document.children)
            known[digest] = listed and digest in plan.rejected
    return known[digest]


class _Judging:
    def __init__(self, plan: Plan, size_of: SizeOf) -> None:
        self._plan, self._size_of = plan, size_of
        self._complete: dict[Digest, bool] = {}
        self.problems: list[Problem] = []
        self.missing = False

    def is_complete(self, digest: Digest, title: str) -> bool:
        known = self._complete.get(digest)
        if known is None:
            document = self._plan.documents.get(digest)
            known = document is not None and self._judge(document, title)
            self._complete[digest] = known
        return known

    def _judge(self, document: Document, title: str) -> bool:
        if document.digest in self._plan.rejected:
            return False
        if isinstance(document.content, Index):
            judged = [self.is_complete(child.digest, title) for child in document.content.manifests]
            if not any(judged):
                self._none_complete(document, title)
            return any(judged)
        return self._judge_manifest(document, title)

    def _none_complete(self, document: Document, title: str) -> None:
        if not any(child.digest in self._plan.documents for child in document.children):
            self.missing = True
            reason = "none of the manifests that its index lists is in the archive"
            self.problems.append(Problem(reason, image=title, blob=str(document.digest)))

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
                reason = f"blob {blob.digest} has {size} bytes, its manifest says {blob.size_bytes}"
                self.problems.append(Problem(reason, image=title, blob=str(blob.digest)))
        for digest in absent[:_SHOWN_MISSING]:
            reason = f"blob {digest} is not in the archive ({len(absent)} missing in all)"
            self.problems.append(Problem(reason, image=title, blob=str(digest)))
        self.missing = self.missing or bool(absent)
        return whole and not absent

    def absent_root(self, image: PlannedImage) -> None:
        if not any(p.blob == str(image.root) for p in self._plan.problems):
            self.missing = True
            reason = f"document {image.root} is not in the archive"
            self.problems.append(Problem(reason, image=image.title, blob=str(image.root)))

    def collect(self, digest: Digest, into: dict[Digest, Document]) -> None:
        """The complete documents below and with this one, children first."""
        document = self._plan.documents[digest]
        if digest in into or not self._complete.get(digest):
            return
        if isinstance(document.content, Index):
            for child in document.content.manifests:
                if child.digest in self._plan.documents:
                    self.collect(child.digest, into)
        into[digest] = document
