"""`index.json` of the embedded store: derived from the catalog, and enough to rebuild it from.

Each entry is a current name with its sequence number and archive as annotations. The numbers of
all present archives are kept too, so that a rebuild does not let an older one win. Blocking.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airside.archive.layout import IMAGE_NAME, REF_NAME
from airside.catalog.model import ClaimedName
from airside.catalog.record import Catalog
from airside.errors import InputError, NotFoundError
from airside.oci.digest import Digest
from airside.oci.model import (
    DOCUMENT_TYPES,
    OCI_INDEX,
    Descriptor,
    Document,
    Index,
    load_json,
    parse_config,
    parse_descriptor,
    parse_document,
)
from airside.oci.reference import Repository, fits_ref_name, looks_like_host
from airside.store.local import LocalStore

GENERATION = "dev.airside.generation"
SEQUENCE = "dev.airside.sequence"
ARCHIVE = "dev.airside.archive"
KIND = "dev.airside.kind"
ARCHIVES = "dev.airside.archives"


class IndexWriter:
    """Keeps `index.json` up with the catalog. Thread-safe; writers that come late find it done."""

    def __init__(self, store: LocalStore, catalog: Catalog) -> None:
        self._store, self._catalog = store, catalog
        self._lock = threading.Lock()

    def write(self, *, compare: bool = False) -> bool:
        """Write if the catalog changed; returns whether it did. Raises StoreError.

        The generation tells, unless the bytes are to be compared. It is read first: an index is
        at most newer than it says, and then the writer of that change comes after us.
        """
        with self._lock:
            generation = self._catalog.generation
            found = self._store.read_index()
            if not compare and index_generation(found) == generation:
                return False
            wanted = render_index(self._catalog, generation)
            if found == wanted:
                return False
            self._store.write_index(wanted)
            return True


def render_index(catalog: Catalog, generation: int) -> bytes:
    """The bytes of `index.json` for the catalog as it is."""
    manifests: list[dict[str, Any]] = []
    for reference, sequence, digest, media_type, size, kind, path in catalog.index_entries():
        annotations = {IMAGE_NAME: reference, SEQUENCE: str(sequence), ARCHIVE: path}
        if kind != "archive":
            annotations[KIND] = kind
        if fits_ref_name(reference):
            annotations[REF_NAME] = reference
        descriptor = {"mediaType": media_type, "digest": digest, "size": size}
        manifests.append(descriptor | {"annotations": annotations})
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": manifests,
        "annotations": {
            GENERATION: str(generation),
            ARCHIVES: json.dumps(catalog.index_archives()),
        },
    }
    return json.dumps(value, indent=1).encode()


def index_generation(raw: bytes | None) -> int:
    """The catalog's generation that an `index.json` was made at; -1 for none or another's."""
    if raw is None:
        return -1
    try:
        return int(load_json(raw, "index.json")["annotations"][GENERATION])
    except (InputError, KeyError, TypeError, ValueError):
        return -1


@dataclass(slots=True)
class _Found:
    """What is restored for one archive."""

    claims: list[tuple[ClaimedName, int]] = field(default_factory=list)
    documents: dict[Digest, Document] = field(default_factory=dict)
    platforms: dict[Digest, str] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)


def rebuild_catalog(
    store: LocalStore, catalog: Catalog, now: float, is_present: Callable[[Path], bool]
) -> int:
    """Fill an empty catalog from `index.json`; returns how many names were restored.

    Every blob is hashed again. Names whose image is not whole any more are left out.
    """
    raw = store.read_index()
    if raw is None or index_generation(raw) < 0:
        return 0
    index = load_json(raw, "index.json")
    sources = _sources(store, index["manifests"])
    sequences: dict[str, int] = json.loads(index["annotations"].get(ARCHIVES, "{}"))
    done = {(row.kind, row.path) for row in catalog.sources()}  # by an interrupted rebuild
    for kind, path in {**sources, **{("archive", path): None for path in sequences}}:
        found = sources[kind, path]
        present = kind != "archive" or is_present(Path(path))
        if (kind, path) in done or not (found.claims or present):
            continue
        numbers = [sequence for _, sequence in found.claims]
        if kind == "archive" and path in sequences:
            numbers = [sequences[path]]
        catalog.restore(
            path,
            found.claims,
            found.documents.values(),
            found.platforms,
            found.blobs,
            kind=kind,
            sequence=max(numbers),
            present=present,
            now=now,
        )
    return sum(len(found.claims) for found in sources.values())


def _sources(store: LocalStore, entries: list[Any]) -> dict[tuple[str, str], _Found]:
    """What the entries that are whole say of each source, by its kind and path."""
    sources: dict[tuple[str, str], _Found] = defaultdict(_Found)
    for item in entries:
        root = parse_descriptor(item, "index.json")
        found = _Found()
        if _collect(store, root, found):
            told = root.annotations
            into = sources[told.get(KIND, "archive"), told.get(ARCHIVE, "")]
            into.claims.append((_claim(root), int(told.get(SEQUENCE, "0"))))
            into.documents |= found.documents
            into.platforms |= found.platforms
            into.blobs |= found.blobs
    return sources


def _claim(root: Descriptor) -> ClaimedName:
    """The name that we wrote ourselves: `host/path:tag`, without a tag for an unnamed image."""
    name = root.annotations[IMAGE_NAME]
    slash, colon = name.rfind("/"), name.rfind(":")
    text, tag = (name[:colon], name[colon + 1 :]) if colon > slash else (name, "")
    host, _, path = text.partition("/")
    repository = Repository(host, path) if looks_like_host(host) else Repository("", text)
    return ClaimedName(repository, tag, root.digest)


def _collect(store: LocalStore, root: Descriptor, found: _Found) -> bool:
    """Read the documents below a root and hash their blobs; False if it is not whole."""
    if not _verified(store, root, found):
        return False
    with store.open(root.digest) as file:
        document = parse_document(file.read(), root.media_type, str(root.digest))
    if isinstance(document.content, Index):
        nested = [c for c in document.content.manifests if c.media_type in DOCUMENT_TYPES]
        whole = [_collect(store, child, found) for child in nested]
        if not any(whole):
            return False
    else:
        needed = [blob for blob in document.children if blob.is_distributable]
        if not all(_verified(store, blob, found) for blob in needed):
            return False
        if document.is_image:
            _platform(store, document, found)
    found.documents[root.digest] = document
    return True


def _platform(store: LocalStore, document: Document, found: _Found) -> None:
    config = document.children[0].digest
    with store.open(config) as file:
        platform = parse_config(file.read(), str(config)).platform
    if platform is not None:
        found.platforms[document.digest] = str(platform)


def _verified(store: LocalStore, blob: Descriptor, found: _Found) -> bool:
    if blob.digest in found.blobs:
        return True
    try:
        if store.hash_blob(blob.digest) != blob.digest:
            return False
    except NotFoundError:
        return False
    found.blobs[blob.digest] = blob.size_bytes
    return True
