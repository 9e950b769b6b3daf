"""Manifests and indexes that no record names, found by reading blobs. Blocking.

A pushed document is only in the catalog and in its blob. Where the catalog was lost, each unknown
blob that may be a document is read; its content shows whether it is one. A whole image is recorded
under `recovered`, by its digest, so that it can be pulled and is not deleted.
"""

import logging
from collections.abc import Iterable, Mapping

from airside.catalog.catalog import Catalog
from airside.catalog.model import ClaimedName, RestoredSource
from airside.core.errors import InputError, NotFoundError, StoreError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import Descriptor, Document, parse_bare_document
from airside.oci.reference import Repository
from airside.store.whole_images import FoundImages, VerifiedBlobs, collect_image

log = logging.getLogger("airside.node")

RECOVERED = Repository("", "recovered")
_BEGINS = b"{ \t\r\n"
_AT_ONCE = 500
"""Images per transaction: each commit waits for the disk."""


def recover_documents(
    held: VerifiedBlobs, catalog: Catalog, blobs: Mapping[Digest, int], now: float
) -> int:
    """Records the whole images among these blobs. Returns the number of documents with a digest.

    A document below another found one is recorded with that one.
    """
    roots: dict[Digest, Descriptor] = {}
    below: set[Digest] = set()
    for document in _documents(held, blobs):  # one at a time in memory
        roots[document.digest] = Descriptor(
            document.media_type, document.digest, document.size_bytes
        )
        below.update(child.digest for child in document.children if child.digest in blobs)
    count, waiting = 0, list[RestoredSource]()
    done = {row.path for row in catalog.sources() if row.kind == "push"}
    for root in roots.values():
        path = f"{RECOVERED}@{root.digest}"
        if root.digest in below or path in done:
            continue
        found = FoundImages()
        if not collect_image(held, root, found):
            continue
        claim = (ClaimedName(RECOVERED, "", root.digest), 0)
        waiting.append(
            RestoredSource(
                "push",
                path,
                0,
                True,
                (claim,),
                tuple(found.documents.values()),
                found.platforms,
                found.blobs,
            )
        )
        if len(waiting) >= _AT_ONCE:
            catalog.recovery.restore_sources(waiting, now)
            waiting = []
        log.warning("found %s %s, which no record names", root.media_type, root.digest)
        count += 1
    catalog.recovery.restore_sources(waiting, now)
    return count


def _documents(held: VerifiedBlobs, blobs: Mapping[Digest, int]) -> Iterable[Document]:
    for digest, size in blobs.items():
        if not 0 < size <= held.document_bytes:
            continue
        try:
            with held.store.open(digest) as file:
                if file.read(1) not in _BEGINS:
                    continue
                file.seek(0)
                raw = file.read()
            if digest_of(raw, digest.algorithm) == digest:
                yield parse_bare_document(raw, str(digest), algorithm=digest.algorithm)
        except (InputError, NotFoundError, StoreError, OSError):
            continue
