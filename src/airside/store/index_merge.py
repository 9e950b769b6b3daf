"""Adds to a catalog that lost its last transactions the pushed names that `index.json` still has.

Archives are read again by themselves, so only pushes are restored, as if they were pushed now. What
the catalog has and `index.json` has not stays. Blocking.
"""

from airside.archive.formats.index_json import IMAGE_NAME
from airside.catalog.catalog import Catalog
from airside.catalog.pushes import Push, PushedBlob
from airside.oci.model import Descriptor, parse_descriptor
from airside.oci.strict_json import load_json
from airside.store.index_json import KIND, name_of_entry
from airside.store.whole_images import FoundImages, VerifiedBlobs, collect_image


def merge_index(
    held: VerifiedBlobs, catalog: Catalog, raw: bytes, now: float
) -> tuple[int, list[str]]:
    """Records the pushed names that differ. Returns their number, and those not complete."""
    index = load_json(raw, "index.json", max_tokens=None)
    entries = [parse_descriptor(item, "index.json") for item in index["manifests"]]
    count, left_out = 0, []
    for entry in entries:
        if entry.annotations.get(KIND) != "push" or _is_recorded(catalog, entry):
            continue
        found = FoundImages()
        if collect_image(held, entry, found):
            _push(catalog, entry, found, now)
            count += 1
        else:
            left_out.append(entry.annotations[IMAGE_NAME])
    return count, left_out


def _is_recorded(catalog: Catalog, entry: Descriptor) -> bool:
    name = name_of_entry(entry)
    if name.tag:
        document = catalog.document_by_tag(name.repository, name.tag)
    else:
        document = catalog.document_by_digest(name.repository, entry.digest)
    return document is not None and document.digest == entry.digest


def _push(catalog: Catalog, entry: Descriptor, found: FoundImages, now: float) -> None:
    """Records blobs first, then the documents from below, as a client pushes them."""
    name = name_of_entry(entry)
    where, tags = name.repository, (name.tag,) if name.tag else ()
    blobs = [PushedBlob(where, digest, size) for digest, size in found.blobs.items()]
    documents = [
        Push(
            where,
            document,
            found.platforms.get(digest),
            tags if digest == entry.digest else (),
            (),
            origin="recovered from index.json",
        )
        for digest, document in found.documents.items()
    ]
    catalog.pushes.record([*blobs, *documents], now)
