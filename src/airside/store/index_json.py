"""`index.json` of the embedded store: derived from the catalog, and enough to rebuild it. Blocking.

Each entry is a current name, with its sequence number and archive as annotations. The sequence
numbers of all present archives are written too, so that an older archive does not win after a
rebuild.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME
from airside.catalog.catalog import Catalog
from airside.catalog.model import ClaimedName, IndexClaim, IndexEntry, RestoredSource, RestoredTag
from airside.oci.digest import Digest, parse_digest
from airside.oci.model import OCI_INDEX, Descriptor, parse_descriptor
from airside.oci.reference import Repository, fits_ref_name, looks_like_host
from airside.oci.strict_json import load_json
from airside.store.index_seal import GENERATION, sealed
from airside.store.local import LocalStore
from airside.store.whole_images import FoundImages, VerifiedBlobs, collect_image

SEQUENCE = "dev.airside.sequence"
ARCHIVE = "dev.airside.archive"
KIND = "dev.airside.kind"
ARCHIVES = "dev.airside.archives"
CLAIMS = "dev.airside.claims"
DELETED = "dev.airside.deleted"
ROLLED_BACK = "dev.airside.rolled-back"

_AT_ONCE = 1000
"""Names per transaction: each commit waits for the disk."""


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

    def is_written(self, state: str) -> bool:
        """Returns True if the file is the one of this state, and the catalog has not changed."""
        return bool(state) and state == self._state_at(self._catalog.generation)

    def resume(self, state: str) -> None:
        """Trusts the file of an earlier writer as long as it and the catalog have this `state`."""
        self._state = state

    def write(self) -> bool:
        """Writes the file if it or the catalog changed. Returns True if it did. Raises StoreError.

        The first call compares the bytes of the file, unless a state was resumed.
        """
        with self._lock:
            if self.is_written(self._state):
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
    tail = f'\n],"annotations":{json.dumps(annotations)}'.removesuffix("}")
    return sealed(b"".join((head.encode(), lines, tail.encode())))


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


def rebuild_catalog(
    held: VerifiedBlobs,
    catalog: Catalog,
    raw: bytes,
    now: float,
    is_present: Callable[[Path], bool],
) -> tuple[int, list[str]]:
    """Fills an empty catalog from the bytes of an `index.json` that `index_generation` accepts.

    Returns the number of names restored, and the names whose image is not complete any more, which
    are left out. Hashes every blob again.
    """
    index = load_json(raw, "index.json", max_tokens=None)
    entries = [parse_descriptor(item, "index.json") for item in index["manifests"]]
    whole: set[Digest] = set()
    sources = _sources(held, entries, whole)
    sequences: dict[str, int] = json.loads(index["annotations"].get(ARCHIVES, "{}"))
    deleted = json.loads(index["annotations"].get(DELETED, "[]"))
    catalog.recovery.restore_deleted(((_repository(n), tag, path) for n, tag, path in deleted), now)
    done = {(row.kind, row.path) for row in catalog.sources()}  # restored by an interrupted rebuild
    kinds = {**sources, **{("archive", path): None for path in sequences}}
    there = {key: key[0] != "archive" or is_present(Path(key[1])) for key in kinds}
    waiting, names = list[RestoredSource](), 0
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
            max(numbers, default=0),
            present,
            tuple(found.claims),
            tuple(found.documents.values()),
            found.platforms,
            found.blobs,
        )
        waiting.append(restored)
        names += len(restored.claims)
        if names >= _AT_ONCE:
            catalog.recovery.restore_sources(waiting, now)
            waiting, names = [], 0
    catalog.recovery.restore_sources(waiting, now)
    count = _restore_tags(catalog, [entry for entry in entries if entry.digest in whole], now)
    return count, [e.annotations[IMAGE_NAME] for e in entries if e.digest not in whole]


def _restore_tags(catalog: Catalog, entries: list[Descriptor], now: float) -> int:
    """Restores the tags in batches: one transaction for each would cost one disk sync for each."""
    tags = [
        RestoredTag(claim, notes.get(KIND, "archive"), notes.get(ARCHIVE, ""), ROLLED_BACK in notes)
        for claim, notes in ((name_of_entry(entry), entry.annotations) for entry in entries)
        if claim.tag
    ]
    for start in range(0, len(tags), _AT_ONCE):
        catalog.recovery.restore_tags(tags[start : start + _AT_ONCE], now)
    return len(entries)


def _sources(
    held: VerifiedBlobs, entries: list[Descriptor], whole: set[Digest]
) -> dict[tuple[str, str], FoundImages]:
    """Returns what the entries say of each source, by kind and path, as far as it is complete."""
    sources: dict[tuple[str, str], FoundImages] = defaultdict(FoundImages)
    for root in entries:
        own = FoundImages()
        is_whole = collect_image(held, root, own)
        for kind, path, sequence, claimed in _claimed(root):
            found = own if claimed.digest == root.digest else FoundImages()
            if collect_image(held, claimed, found):
                into = sources[kind, path]
                name = replace(name_of_entry(root), digest=claimed.digest)
                into.claims.append((name, sequence))
                into.add(found)
        if is_whole:
            whole.add(root.digest)
            if root.annotations.get(CLAIMS):  # a merged index, or an earlier version
                kept = sources[root.annotations.get(KIND, "archive"), root.annotations[ARCHIVE]]
                kept.add(own)
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


def name_of_entry(root: Descriptor) -> ClaimedName:
    """Parses the name that we wrote: `host/path:tag`, without a tag for an unnamed image."""
    name = root.annotations[IMAGE_NAME]
    slash, colon = name.rfind("/"), name.rfind(":")
    text, tag = (name[:colon], name[colon + 1 :]) if colon > slash else (name, "")
    return ClaimedName(_repository(text), tag, root.digest)


def _repository(text: str) -> Repository:
    host, _, path = text.partition("/")
    return Repository(host, path) if looks_like_host(host) else Repository("", text)
