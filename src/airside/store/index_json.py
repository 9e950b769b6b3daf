"""`index.json` of the embedded store: derived from the catalog, and enough to rebuild it. Blocking.

Each entry is a current name, with its sequence number and archive as annotations. The sequence
numbers of all present archives are written too, so that an older archive does not win after a
rebuild.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME
from airside.catalog.catalog import Catalog
from airside.catalog.model import ClaimedName, IndexClaim, IndexEntry, RestoredSource, RestoredTag
from airside.core.errors import InputError, NotFoundError
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import (
    DOCUMENT_TYPES,
    OCI_INDEX,
    Descriptor,
    Document,
    Index,
    parse_config,
    parse_descriptor,
    parse_document,
)
from airside.oci.platform import Platform
from airside.oci.reference import Repository, fits_ref_name, looks_like_host
from airside.oci.strict_json import load_json
from airside.store.local import LocalStore

GENERATION = "dev.airside.generation"
SEQUENCE = "dev.airside.sequence"
ARCHIVE = "dev.airside.archive"
KIND = "dev.airside.kind"
ARCHIVES = "dev.airside.archives"
CLAIMS = "dev.airside.claims"
DELETED = "dev.airside.deleted"
ROLLED_BACK = "dev.airside.rolled-back"

_AT_ONCE = 500


class IndexJsonWriter:
    """Writes `index.json` from the catalog; the only writer for its catalog.

    Thread-safe: of two concurrent writers the second finds the file up to date. Rendered entries
    are cached by repository, so that a change of one repository does not read the others.
    """

    def __init__(self, store: LocalStore, catalog: Catalog) -> None:
        self._store, self._catalog = store, catalog
        self._lock = threading.Lock()
        self._rendered: dict[int, _Rendered] | None = None
        self._state = ""

    @property
    def state(self) -> str:
        """The generation and the file key of the last write; empty if unknown."""
        return self._state

    def resume(self, state: str) -> None:
        """Trusts the file of an earlier writer as long as it and the catalog have this `state`."""
        self._state = state

    def write(self) -> bool:
        """Writes the file if it or the catalog changed. Returns True if it did. Raises StoreError.

        The first call compares the bytes of the file, unless a state was resumed.
        """
        with self._lock:
            if self._state and self._state == self._state_at(self._catalog.generation):
                return False
            try:
                return self._write()
            except BaseException:
                self._rendered, self._state = None, ""
                raise

    def _write(self) -> bool:
        first = self._rendered is None
        changes = self._catalog.index_changes(everything=first)
        kept = self._rendered = self._rendered or {}
        for repository_id in changes.changed:
            kept.pop(repository_id, None)
        for repository_id, (repository, entries) in changes.entries.items():
            kept[repository_id] = (repository.host, repository.path, _rendered(entries))
        wanted = _joined(changes.generation, kept.values(), changes.archives, changes.deleted)
        differs = not first or self._store.read_index() != wanted
        if differs:
            self._store.write_index(wanted)
        self._state = self._state_at(changes.generation)
        return differs

    def _state_at(self, generation: int) -> str:
        key = self._store.index_key()
        return f"{generation} {key}" if key else ""


_Rendered = tuple[str, str, bytes]
"""Host and path of a repository, and its lines."""


def render_index(catalog: Catalog) -> bytes:
    """Returns the bytes of `index.json` for the current catalog, without any cache."""
    found = catalog.index_entries().values()
    rendered = [(r.host, r.path, _rendered(entries)) for r, entries in found]
    archives, deleted = catalog.index_archives(), catalog.index_deleted()
    return _joined(catalog.generation, rendered, archives, deleted)


def _joined(
    generation: int,
    rendered: Iterable[_Rendered],
    archives: dict[str, int],
    deleted: list[tuple[str, str, str]],
) -> bytes:
    """Returns the document, with one line for each name, so that a person can search it."""
    annotations = {GENERATION: str(generation), ARCHIVES: json.dumps(archives)}
    if deleted:
        annotations[DELETED] = json.dumps(deleted)
    head = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[\n'
    lines = b",\n".join(text for _, _, text in sorted(rendered))
    return b"".join(
        (head.encode(), lines, f'\n],"annotations":{json.dumps(annotations)}}}\n'.encode())
    )


def _rendered(entries: Iterable[IndexEntry]) -> bytes:
    return ",\n".join(_COMPACT.encode(_descriptor(entry)) for entry in entries).encode()


_COMPACT = json.JSONEncoder(separators=(",", ":"))


def _descriptor(entry: IndexEntry) -> dict[str, Any]:
    annotations = {
        IMAGE_NAME: entry.reference,
        SEQUENCE: str(entry.sequence),
        ARCHIVE: entry.source,
    }
    if entry.kind != "archive":
        annotations[KIND] = entry.kind
    if entry.rolled_back:
        annotations[ROLLED_BACK] = "true"
    if entry.claims:
        annotations[CLAIMS] = json.dumps([astuple(claim) for claim in entry.claims])
    if fits_ref_name(entry.reference):
        annotations[REF_NAME] = entry.reference
    return {
        "mediaType": entry.media_type,
        "digest": entry.digest,
        "size": entry.size_bytes,
        "annotations": annotations,
    }


def index_generation(raw: bytes | None) -> int:
    """Returns the catalog generation in an `index.json`; -1 if there is none or it is another's."""
    if raw is None:
        return -1
    try:
        return int(load_json(raw, "index.json", max_tokens=None)["annotations"][GENERATION])
    except (InputError, KeyError, TypeError, ValueError):
        return -1


@dataclass(slots=True)
class _Found:
    """The part of one archive that is restored."""

    claims: list[tuple[ClaimedName, int]] = field(default_factory=list)
    documents: dict[Digest, Document] = field(default_factory=dict)
    platforms: dict[Digest, Platform] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    complete: dict[Digest, bool] = field(default_factory=dict)


@dataclass(slots=True)
class _Hashed:
    """Hashes each blob once: many images may share a large layer, and many names an image."""

    store: LocalStore
    _true: dict[Digest, bool] = field(default_factory=dict)

    def is_true(self, digest: Digest) -> bool:
        """Returns True if the store holds the blob and its bytes hash to its digest."""
        if digest not in self._true:
            try:
                self._true[digest] = self.store.hash_blob(digest) == digest
            except NotFoundError:
                self._true[digest] = False
        return self._true[digest]


def rebuild_catalog(
    store: LocalStore, catalog: Catalog, now: float, is_present: Callable[[Path], bool]
) -> int:
    """Fills an empty catalog from `index.json`. Returns the number of names restored.

    Hashes every blob again. Leaves out names whose image is not complete any more.
    """
    raw = store.read_index()
    if raw is None or index_generation(raw) < 0:
        return 0
    index = load_json(raw, "index.json", max_tokens=None)
    entries = [parse_descriptor(item, "index.json") for item in index["manifests"]]
    whole: set[Digest] = set()
    sources = _sources(store, entries, whole)
    sequences: dict[str, int] = json.loads(index["annotations"].get(ARCHIVES, "{}"))
    deleted = json.loads(index["annotations"].get(DELETED, "[]"))
    catalog.recovery.restore_deleted(((_repository(n), tag, path) for n, tag, path in deleted), now)
    done = {(row.kind, row.path) for row in catalog.sources()}  # restored by an interrupted rebuild
    kinds = {**sources, **{("archive", path): None for path in sequences}}
    there = {key: key[0] != "archive" or is_present(Path(key[1])) for key in kinds}
    for (kind, path), present in sorted(there.items(), key=lambda item: not item[1]):
        found = sources[kind, path]
        if (kind, path) in done or not (found.claims or present):
            continue
        numbers = [sequence for _, sequence in found.claims]
        if kind == "archive" and path in sequences:
            numbers = [sequences[path]]
        restored = RestoredSource(
            kind,
            path,
            max(numbers),
            present,
            tuple(found.claims),
            tuple(found.documents.values()),
            found.platforms,
            found.blobs,
        )
        catalog.recovery.restore_source(restored, now)
    return _restore_tags(catalog, [entry for entry in entries if entry.digest in whole], now)


def _restore_tags(catalog: Catalog, entries: list[Descriptor], now: float) -> int:
    """Restores the tags in batches: one transaction for each would cost one disk sync for each."""
    tags = [
        RestoredTag(claim, notes.get(KIND, "archive"), notes.get(ARCHIVE, ""), ROLLED_BACK in notes)
        for claim, notes in ((_claim(entry), entry.annotations) for entry in entries)
        if claim.tag
    ]
    for start in range(0, len(tags), _AT_ONCE):
        catalog.recovery.restore_tags(tags[start : start + _AT_ONCE], now)
    return len(entries)


def _sources(
    store: LocalStore, entries: list[Descriptor], whole: set[Digest]
) -> dict[tuple[str, str], _Found]:
    """Returns what the entries say of each source, by kind and path, as far as it is complete."""
    sources: dict[tuple[str, str], _Found] = defaultdict(_Found)
    held = _Hashed(store)
    for root in entries:
        for kind, path, sequence, claimed in _claimed(root):
            found = _Found()
            if _collect(held, claimed, found):
                into = sources[kind, path]
                name = replace(_claim(root), digest=claimed.digest)
                into.claims.append((name, sequence))
                into.documents |= found.documents
                into.platforms |= found.platforms
                into.blobs |= found.blobs
        found = _Found()
        if _collect(held, root, found):
            whole.add(root.digest)
            if root.annotations.get(CLAIMS):  # a merged index, or an earlier version
                kept = sources[root.annotations.get(KIND, "archive"), root.annotations[ARCHIVE]]
                kept.documents |= found.documents
                kept.platforms |= found.platforms
                kept.blobs |= found.blobs
    return sources


def _claimed(root: Descriptor) -> Iterator[tuple[str, str, int, Descriptor]]:
    """Yields (kind, path, sequence, document) for each source of an entry."""
    annotations = root.annotations
    if CLAIMS not in annotations:
        kind, path = annotations.get(KIND, "archive"), annotations.get(ARCHIVE, "")
        yield kind, path, int(annotations.get(SEQUENCE, "0")), root
        return
    for values in json.loads(annotations[CLAIMS]):
        claim = IndexClaim(*values)
        descriptor = Descriptor(claim.media_type, parse_digest(claim.digest), claim.size_bytes)
        yield claim.kind, claim.path, claim.sequence, descriptor


def _claim(root: Descriptor) -> ClaimedName:
    """Parses the name that we wrote: `host/path:tag`, without a tag for an unnamed image."""
    name = root.annotations[IMAGE_NAME]
    slash, colon = name.rfind("/"), name.rfind(":")
    text, tag = (name[:colon], name[colon + 1 :]) if colon > slash else (name, "")
    return ClaimedName(_repository(text), tag, root.digest)


def _repository(text: str) -> Repository:
    host, _, path = text.partition("/")
    return Repository(host, path) if looks_like_host(host) else Repository("", text)


def _collect(held: _Hashed, root: Descriptor, found: _Found) -> bool:
    """Reads the documents below a root and hashes their blobs. Returns False if one is missing.

    Each document is read once, however often indexes list it.
    """
    if root.digest not in found.complete:
        found.complete[root.digest] = False  # an index cannot list itself, but bytes may be wrong
        found.complete[root.digest] = _collect_once(held, root, found)
    return found.complete[root.digest]


def _collect_once(held: _Hashed, root: Descriptor, found: _Found) -> bool:
    if not _verified(held, root, found):
        return False
    with held.store.open(root.digest) as file:
        named = str(root.digest)
        document = parse_document(
            file.read(), root.media_type, named, algorithm=root.digest.algorithm
        )
    if isinstance(document.content, Index):
        nested = [c for c in document.content.manifests if c.media_type in DOCUMENT_TYPES]
        whole = [_collect(held, child, found) for child in nested]
        if not any(whole):
            return False
    else:
        needed = [blob for blob in document.children if blob.is_distributable]
        if not all(_verified(held, blob, found) for blob in needed):
            return False
        if document.is_image:
            _platform(held.store, document, found)
    found.documents[root.digest] = document
    return True


def _platform(store: LocalStore, document: Document, found: _Found) -> None:
    config = document.children[0].digest
    with store.open(config) as file:
        platform = parse_config(file.read(), str(config)).platform
    if platform is not None:
        found.platforms[document.digest] = platform


def _verified(held: _Hashed, blob: Descriptor, found: _Found) -> bool:
    if not held.is_true(blob.digest):
        return False
    found.blobs[blob.digest] = blob.size_bytes
    return True
