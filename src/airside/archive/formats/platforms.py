"""Which platforms of an archive's images are taken. Pure.

A watched directory may want only some platforms (`platforms = "node"`, or a list). Then the other
manifests count as absent, like those of a sparse layout: an index stays byte for byte what it is.
An image of which nothing is wanted is left out, with a note; it is no failure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from airside.archive.formats.plan import Plan, PlannedImage
from airside.oci.digest import Digest
from airside.oci.merge import Part, parts_of
from airside.oci.platform import Platform, Selection

_SHOWN = 3


def restrict(plan: Plan, select: Selection, wanted: str) -> Plan:
    """The plan without the manifests that are not wanted; `wanted` is what notes call them.

    Artifacts and images of no known platform are always taken.
    """
    dropped: set[Digest] = set()
    taken: set[Digest] = set()
    images: list[PlannedImage] = []
    notes: list[str] = []
    for image in plan.images:
        parts = parts_of(image.root, plan.documents, plan.platforms)
        platforms = {part.platform for part in parts if part.platform is not None}
        chosen = select(platforms)
        if platforms and not chosen:
            notes.append(f"{image.title} is not for {wanted} (has: {_text(platforms)}): not taken")
        else:
            images.append(image)
        left, kept = _split(parts, chosen)
        dropped |= left
        taken |= kept
    dropped -= taken
    documents = {d: document for d, document in plan.documents.items() if d not in dropped}
    return replace(
        plan,
        images=tuple(images),
        documents=documents,
        notes=(*plan.notes, *_few(notes)),
        unwanted=tuple(notes),
    )


def _split(parts: Iterable[Part], chosen: frozenset[Platform]) -> tuple[set[Digest], set[Digest]]:
    """(dropped, taken) manifests of one image; attestations go with what they are about."""
    parts = tuple(parts)
    taken = {p.digest for p in parts if p.platform is not None and p.platform in chosen}
    taken |= {p.digest for p in parts if p.platform is None and p.attested in taken}
    known = {p.digest for p in parts}
    return known - taken, taken


def _text(platforms: Iterable[Platform]) -> str:
    return ", ".join(sorted(platform.key for platform in platforms))


def _few(notes: list[str]) -> Iterator[str]:
    yield from notes[:_SHOWN]
    if len(notes) > _SHOWN:
        yield f"and {len(notes) - _SHOWN} more images are not for this directory's platforms"
