"""The names that an archive's images are recorded under, and those that it withholds. Pure."""

import re
from collections.abc import Iterable
from pathlib import Path

from airside.archive.formats.plan import OCI_LAYOUT
from airside.archive.reader import ARCHIVE_SUFFIXES, Reading
from airside.catalog.model import ClaimedName
from airside.oci.digest import Digest
from airside.oci.reference import Repository, is_tag

UNNAMED = "unnamed"
_ALIAS_CHARS = 1000
"""The longest text of an image's names as they were written; each of its names records them all."""
_NOT_IN_PATH = re.compile(r"[^a-z0-9]+")


def claims(reading: Reading, repository: Repository | None) -> Iterable[ClaimedName]:
    """Yields the names to record. An image without a name is recorded under `unnamed/<file name>`.

    `repository`: the repository of names that are only a tag.
    """
    for image in reading.judgement.images:
        alias = " ".join(image.aliases)[:_ALIAS_CHARS]
        for reference in image.references:
            yield ClaimedName(reference.repository, reference.tag, image.root, alias)
        tags = [tag for tag in image.tags if repository is not None and is_tag(tag)]
        for tag in tags:
            assert repository is not None
            yield ClaimedName(repository, tag, image.root, alias)
        beside = image.beside if repository is None or not image.beside_tag else (repository,)
        beside = tuple(dict.fromkeys((*image.beside, *beside)))
        for found in beside:
            yield ClaimedName(found, "", image.root, alias)
        if not image.references and not tags and not beside:
            yield ClaimedName(unnamed_repository(reading.path), "", image.root, alias)


def absent_documents(reading: Reading) -> frozenset[Digest]:
    """Returns the documents that a sparse archive lacks and the store had."""
    if reading.plan.format != OCI_LAYOUT:
        return frozenset()
    documents = (document.digest for document in reading.judgement.documents)
    return frozenset(digest for digest in documents if digest not in reading.plan.blobs)


def withheld(reading: Reading) -> frozenset[tuple[Repository, str]]:
    """Returns the names of the images that were not imported."""
    kept = {image.root for image in reading.judgement.images}
    return frozenset(
        (reference.repository, reference.tag)
        for image in reading.plan.images
        if image.root not in kept
        for reference in image.references
    )


def unnamed_repository(path: Path) -> Repository:
    """Returns the repository for an archive's images without names, which are pulled by digest."""
    stem = path.name.lower()
    for suffix in (*ARCHIVE_SUFFIXES, ".tar"):  # x.tar.gz has two
        stem = stem.removesuffix(suffix)
    return Repository("", f"{UNNAMED}/{_NOT_IN_PATH.sub('-', stem).strip('-') or 'archive'}")
