"""Selects the platforms of an archive's images that are imported. Pure.

A watched directory may select some platforms (`platforms = "node"`, or a list). The other manifests
then count as absent, like those of a sparse layout; the bytes of an index do not change. An image
without a selected platform is skipped with a note, which is no failure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from airside.archive.formats.plan import Plan, PlannedImage
from airside.oci.digest import Digest
from airside.oci.merge import Part, parts_of
from airside.oci.platform import Platform, Selection

_SHOWN = 3


def restrict(plan: Plan, select: Selection, wanted: str) -> Plan:
    """Returns the plan without the manifests that `select` drops; notes name those as `wanted`.

    Artifacts and images without a known platform are always imported.
    """
    dropped: set[Digest] = set()
    selected: set[Digest] = set()
    images: list[PlannedImage] = []
    notes: list[str] = []
    for image in plan.images:
        parts = parts_of(image.root, plan.documents, plan.platforms)
        platforms = {part.platform for part in parts if part.platform is not None}
        chosen = select(platforms)
        if platforms and not chosen:
            notes.append(
                f"{image.title} is not for {wanted} (has: {_text(platforms)}): not imported"
            )
        else:
            images.append(image)
        unwanted_parts, wanted_parts = _split(parts, chosen)
        dropped |= unwanted_parts
        selected |= wanted_parts
    dropped -= selected
    documents = {d: document for d, document in plan.documents.items() if d not in dropped}
    return replace(
        plan,
        images=tuple(images),
        documents=documents,
        notes=(*plan.notes, *_few(notes)),
        unwanted=tuple(notes),
    )


def _split(parts: Iterable[Part], chosen: frozenset[Platform]) -> tuple[set[Digest], set[Digest]]:
    """Returns (dropped, selected) manifests of one image; an attestation follows its manifest."""
    parts = tuple(parts)
    selected = {p.digest for p in parts if p.platform is not None and p.platform in chosen}
    selected |= {p.digest for p in parts if p.platform is None and p.attested in selected}
    known = {p.digest for p in parts}
    return known - selected, selected


def _text(platforms: Iterable[Platform]) -> str:
    return ", ".join(sorted(platform.key for platform in platforms))


def _few(notes: list[str]) -> Iterator[str]:
    yield from notes[:_SHOWN]
    if len(notes) > _SHOWN:
        yield f"{len(notes) - _SHOWN} more images are not for this directory's platforms"
