"""Counts what the catalog would record for an archive, before any of it is recorded. Pure.

Each name gets a row for each platform, and each repository one for each document and blob below its
images. A small document that many names share would otherwise fill the disk with the catalog.
"""

from collections.abc import Mapping

from airside.archive.formats.allowance import over
from airside.archive.formats.plan import Plan, PlannedImage
from airside.core.settings import Limits
from airside.oci.digest import Digest
from airside.oci.merge import parts_of
from airside.oci.model import Document

_STEPS_TIMES = 4
"""Descriptors that are looked at for each record: many documents may list the same blobs."""


def check_records(plan: Plan, limits: Limits) -> None:
    """Raises ArchiveLimitError (`limits.records`) if the plan's records are too many."""
    records = steps = 0
    for image in plan.images:
        below, looked_at = _below(image.root, plan.documents, limits.records)
        steps += looked_at
        names = max(1, len(image.references) + len(image.tags))
        if steps <= _STEPS_TIMES * limits.records:
            parts = len(parts_of(image.root, plan.documents, plan.platforms))
            records += names * (1 + parts) + _repositories(image) * below
        if records > limits.records or steps > _STEPS_TIMES * limits.records:
            what = "the names of the archive, with the platforms and blobs of each, are more"
            raise over(what, "records", limits, image.title)


def _repositories(image: PlannedImage) -> int:
    """Returns the number of repositories of an image's names."""
    named = {r.repository for r in image.references} | set(image.beside)
    return max(1, len(named) + bool(image.tags or image.beside_tag))


def _below(root: Digest, documents: Mapping[Digest, Document], most: int) -> tuple[int, int]:
    """Returns the digests at or below a root, and the descriptors looked at; stops above `most`."""
    seen, steps = {root}, 0
    waiting = [root]
    while waiting and len(seen) <= most and steps <= _STEPS_TIMES * most:
        document = documents.get(waiting.pop())
        for child in document.children if document is not None else ():
            steps += 1
            if child.digest not in seen:
                seen.add(child.digest)
                waiting.append(child.digest)
    return len(seen), steps
