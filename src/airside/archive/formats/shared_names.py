"""Decides which image keeps a name that several entries of an archive have. Pure (ADR 0032).

Bundlers give an image, its signature, SBOM and attestations one name. What can be run keeps it, be
it a manifest or an index; an index keeps it before a manifest that it lists. The others are
reachable by digest in the repository of the name, and as referrers if they have a subject. Images
for several platforms share a name, and of two for one platform the last counts (`name_clashes`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from airside.archive.formats.plan import Plan, PlannedImage
from airside.oci.digest import Digest
from airside.oci.model import Document, Index
from airside.oci.reference import Reference
from airside.oci.supplements import is_supplement

_SHOWN = 3


class Rank(IntEnum):
    """What a document is: a name goes to the lowest rank among those that have it."""

    IMAGE = 0
    ARTIFACT = 1
    SUPPLEMENT = 2


def settle_names(plan: Plan) -> Plan:
    """Returns the plan in which only the documents of the lowest rank keep a shared name."""
    ranks = _Ranks(plan.documents)
    losers: dict[Digest, set[Reference | str]] = {}
    for name, claimed in _claims(plan.images).items():
        if len(claimed) < 2 and not claimed[0].is_supplement:
            continue
        kept = ranks.keepers(claimed)
        for image in claimed:
            if image.root not in kept:
                losers.setdefault(image.root, set()).add(name)
    if not losers:
        return plan
    images = tuple(_without(image, losers.get(image.root, set())) for image in plan.images)
    told = {root: names for root, names in losers.items() if ranks.is_artifact(root)}
    told |= {i.root: losers[i.root] for i in plan.images if i.is_supplement and i.root in losers}
    return replace(plan, images=images, notes=(*plan.notes, *_notes(told)))


def _claims(images: Iterable[PlannedImage]) -> Mapping[Reference | str, list[PlannedImage]]:
    claims: dict[Reference | str, list[PlannedImage]] = {}
    for image in images:
        names: set[Reference | str] = {*image.references, *image.tags}
        for name in names:
            claims.setdefault(name, []).append(image)
    return claims


def _without(image: PlannedImage, lost: set[Reference | str]) -> PlannedImage:
    if not lost:
        return image
    repositories = (r.repository for r in image.references if r in lost)
    return replace(
        image,
        references=tuple(r for r in image.references if r not in lost),
        tags=tuple(tag for tag in image.tags if tag not in lost),
        beside=tuple(dict.fromkeys(repositories)),
        beside_tag=any(tag in lost for tag in image.tags),
    )


def _notes(losers: Mapping[Digest, set[Reference | str]]) -> Iterator[str]:
    for digest, names in list(losers.items())[:_SHOWN]:
        yield (
            f"{digest} has the name {min(map(str, names))} too, but is no image that can be run: "
            "it is reachable by its digest, and as a referrer if it has a subject"
        )
    if len(losers) > _SHOWN:
        yield f"{len(losers) - _SHOWN} more documents are reachable by their digests only"


@dataclass(slots=True)
class _Ranks:
    """The ranks of the documents of a plan, each found once."""

    documents: Mapping[Digest, Document]
    known: dict[Digest, Rank] = field(default_factory=dict)

    def keepers(self, images: Sequence[PlannedImage]) -> set[Digest]:
        """Returns the roots that keep a name of all these."""
        ranks = {image.root: self._of_image(image) for image in images}
        lowest = min(ranks.values())
        if lowest is Rank.SUPPLEMENT and all(image.is_supplement for image in images):
            return set()
        kept = {root for root, rank in ranks.items() if rank is lowest}
        return kept - self._below(kept) or kept

    def is_artifact(self, root: Digest) -> bool:
        """Returns True for a document that cannot be run."""
        return self._of(root) is not Rank.IMAGE

    def _of_image(self, image: PlannedImage) -> Rank:
        return Rank.SUPPLEMENT if image.is_supplement else self._of(image.root)

    def _of(self, digest: Digest) -> Rank:
        """Returns the rank of a document; an absent one may be an image."""
        if digest not in self.known:
            self.known[digest] = Rank.IMAGE  # an index within itself does not decide
            document = self.documents.get(digest)
            if document is not None:
                self.known[digest] = self._rank(document)
        return self.known[digest]

    def _rank(self, document: Document) -> Rank:
        kind = document.kind_of_artifact
        if not kind and isinstance(document.content, Index):
            return min((self._of(c.digest) for c in document.content.manifests), default=Rank.IMAGE)
        if not kind:
            return Rank.IMAGE
        describes = is_supplement(kind, has_subject=document.subject is not None)
        return Rank.SUPPLEMENT if describes else Rank.ARTIFACT

    def _below(self, roots: set[Digest]) -> set[Digest]:
        """Returns the manifests and indexes below these roots."""
        found: set[Digest] = set()
        todo = list(roots)
        while todo:
            document = self.documents.get(todo.pop())
            if document is None or not isinstance(document.content, Index):
                continue
            below = {child.digest for child in document.content.manifests} - found
            found |= below
            todo += below
        return found
