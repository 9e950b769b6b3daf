"""Joins several drafts of one archive into one plan. Pure.

An archive may have several tables of images: a `manifest.json` that lists more than the index, or
several tars in one file. Of two images with one name, the later counts, as in one table, unless the
first table is the better record (`first_counts`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from airside.archive.formats.plan import Draft, Facts, Plan, PlannedImage, ReadMember
from airside.archive.formats.saved_names import NOT_TAKEN
from airside.core.problem import Problem
from airside.oci.digest import Digest

OLDER = "an earlier table of the tar lists {} images that the last one does not: they are read too"


@dataclass(frozen=True, slots=True)
class JoinedDraft:
    """The drafts of the tables of one archive, in their order.

    With `first_counts`, no later table renames an image of the first, or has its names. With
    `are_older`, the later ones are earlier versions of the first: only their other images count.
    """

    drafts: tuple[Draft, ...]
    first_counts: bool = False
    are_older: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for draft in self.drafts for name in draft.members))

    def expected(self, read: ReadMember) -> dict[str, Digest]:
        found: dict[str, Digest] = {}
        for draft in self.drafts:
            found |= draft.expected(read)
        return found

    def assemble(self, facts: Mapping[str, Facts], read: ReadMember) -> Plan:
        plans = [
            draft.assemble({name: facts[name] for name in draft.members if name in facts}, read)
            for draft in self.drafts
        ]
        if self.are_older:
            plans = [plans[0], *_older(plans)]
        plan = join_plans(plans, first_counts=self.first_counts)
        return replace(
            plan,
            notes=(*plan.notes, *self.notes),
            problems=(*plan.problems, *self.problems),
        )


@dataclass(frozen=True, slots=True)
class RenamedDraft:
    """A draft whose members have other names in the file; `keys` has them by the draft's names."""

    draft: Draft
    keys: Mapping[str, str]

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.keys[name] for name in self.draft.members))

    def expected(self, read: ReadMember) -> dict[str, Digest]:
        found = self.draft.expected(lambda name: read(self.keys[name]))
        return {self.keys[name]: digest for name, digest in found.items() if name in self.keys}

    def assemble(self, facts: Mapping[str, Facts], read: ReadMember) -> Plan:
        names = self.draft.members
        plan = self.draft.assemble(
            {name: facts[self.keys[name]] for name in names if self.keys[name] in facts},
            lambda name: read(self.keys[name]),
        )
        return replace(
            plan,
            blobs={digest: self.keys[name] for digest, name in plan.blobs.items()},
            packed_layers=tuple(
                replace(layer, member=self.keys[layer.member]) for layer in plan.packed_layers
            ),
        )


def _older(plans: list[Plan]) -> Iterator[Plan]:
    """Yields what of each later plan no plan before it has, without names that are taken."""
    roots = {image.root for image in plans[0].images}
    names = {name for image in plans[0].images for name in image.references}
    for plan in plans[1:]:
        new = [image for image in plan.images if image.root not in roots]
        if not new:
            continue
        images = tuple(
            replace(image, references=tuple(r for r in image.references if r not in names))
            for image in new
        )
        roots |= {image.root for image in new}
        names |= {name for image in images for name in image.references}
        yield replace(plan, images=images, notes=(*plan.notes, OLDER.format(len(new))))


def join_plans(plans: list[Plan], *, first_counts: bool = False) -> Plan:
    """Returns one plan with the images of all. The first plan's format is that of the whole."""
    first = plans[0]
    if first_counts and first.problems:
        plans = [first, *map(_without_names, plans[1:])]
    documents = {digest: each for plan in plans for digest, each in plan.documents.items()}
    return replace(
        first,
        images=tuple(_images(plans, first_counts=first_counts)),
        documents=documents,
        blobs={d: name for plan in reversed(plans) for d, name in plan.blobs.items()},
        problems=tuple(problem for plan in plans for problem in plan.problems),
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        platforms={d: each for plan in plans for d, each in plan.platforms.items()},
        packed_layers=tuple(dict.fromkeys(layer for plan in plans for layer in plan.packed_layers)),
        rejected=frozenset(digest for plan in plans for digest in plan.rejected),
        made={digest: raw for plan in plans for digest, raw in plan.made.items()},
        lacks_members=any(plan.lacks_members for plan in plans),
    )


def _without_names(plan: Plan) -> Plan:
    """Returns the plan without its names, each of which is a problem: the better record lost it."""
    names = dict.fromkeys(str(name) for image in plan.images for name in image.references)
    return replace(
        plan,
        images=tuple(replace(image, references=()) for image in plan.images),
        problems=(*plan.problems, *(Problem(NOT_TAKEN, image=name) for name in names)),
    )


def _images(plans: Iterable[Plan], *, first_counts: bool) -> Iterable[PlannedImage]:
    """Returns each root once, at its last place, with the names of all plans."""
    found: dict[Digest, PlannedImage] = {}
    taken: set[object] = set()
    for plan in plans:
        given = {reference for image in plan.images for reference in image.references}
        for image in plan.images:
            if first_counts:
                free = tuple(r for r in image.references if r not in taken)
                image = replace(image, references=free)  # noqa: PLW2901 - with fewer names
            before = found.pop(image.root, None)
            found[image.root] = image if before is None else _both(before, image)
        taken |= given
    return found.values()


def _both(one: PlannedImage, other: PlannedImage) -> PlannedImage:
    return replace(
        one,
        references=tuple(dict.fromkeys((*one.references, *other.references))),
        aliases=tuple(dict.fromkeys((*one.aliases, *other.aliases))),
        tags=tuple(dict.fromkeys((*one.tags, *other.tags))),
        is_supplement=one.is_supplement and other.is_supplement,
    )
