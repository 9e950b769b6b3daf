"""Repair of wrong or lost blobs from another place that has them. Blocking.

In this order: the catalog, which has the bytes of every document; the archive that the blob came
from, imported again; a container runtime's own copy. All bytes are hashed before they are
committed. Then each runtime's file of the blob is checked: it was a hard link to ours, and is
replaced by one to the new file. What a runtime has unpacked of the blob is not touched.
"""

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from airside.archive.directory import stat_key
from airside.catalog.catalog import Catalog
from airside.catalog.verification import BlobSource
from airside.core.errors import NotFoundError, StoppedError, StoreError, UnavailableError
from airside.core.failpoints import fault
from airside.core.settings import CHUNK_BYTES
from airside.oci.digest import Digest, digest_of
from airside.ports.content import RuntimeCopies
from airside.ports.runtime_set import RuntimeSet
from airside.store.local import LocalIngest, LocalStore
from airside.store.lock import StoreLock
from airside.store.quarantine import Quarantine, Quarantined
from airside.store.scrub_results import BlobFinding, Origin, RuntimeFile

log = logging.getLogger("airside.scrub")

Stop = Callable[[], bool]
ReadArchives = Callable[[Sequence[tuple[int, Path]], Stop], None]
"""Imports these archives (source id, path) again, and waits until that is done."""

_REASON = "a blob of this archive is lost: the archive is imported again"


class Repair:
    """Repairs the blobs of one store. As thread-safe as its parts.

    Raises StoreError, StoppedError.
    """

    def __init__(
        self,
        store: LocalStore,
        catalog: Catalog,
        guard: StoreLock,
        quarantine: Quarantine,
        runtimes: RuntimeSet,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._catalog, self._guard = store, catalog, guard
        self._quarantine, self._runtimes, self._clock = quarantine, runtimes, clock

    def run(
        self, items: Iterable[BlobFinding], stop: Stop, read: ReadArchives
    ) -> list[BlobFinding]:
        """Tries to repair quarantined and missing blobs.

        Returns the findings with their results.
        """
        done = [self._from_catalog(item) for item in items]
        done = self._from_archives(done, stop, read)
        done = [item if item.is_fine else self._from_runtimes(item, stop) for item in done]
        return [self._finish(item) for item in done]

    def run_from_runtimes(self, items: Iterable[BlobFinding], stop: Stop) -> list[BlobFinding]:
        """Tries to repair the blobs from the runtimes alone. Returns those repaired."""
        done = [self._from_runtimes(item, stop) for item in items]
        return [self._finish(item) for item in done if item.is_fine]

    def _finish(self, item: BlobFinding) -> BlobFinding:
        if not item.is_fine:
            log.error("repair failed: blob %s is lost: %s", item.digest, item.advice)
            return item
        log.warning("repaired blob %s from %s %s", item.digest, item.origin, item.source)
        fault("repair.before_mend")
        return item.repaired(item.origin, item.source, self._mend(item.digest))

    # sources of good bytes

    def _from_catalog(self, item: BlobFinding) -> BlobFinding:
        raw = self._catalog.document(item.digest)
        if raw is None or digest_of(raw, item.digest.algorithm) != item.digest:
            return item
        return self._take(item, self._store.put(raw, item.digest.algorithm), "catalog", "")

    def _from_archives(
        self, items: Sequence[BlobFinding], stop: Stop, read: ReadArchives
    ) -> list[BlobFinding]:
        wanted = [item for item in items if not item.is_fine]
        sources = queue_again(self._catalog, [item.digest for item in wanted], self._clock())
        if not sources:
            return list(items)
        read([(source.id, Path(source.path)) for source in sources], stop)
        held = self._catalog.blobs()
        return [
            self._from_archive(item, sources) if not item.is_fine and item.digest in held else item
            for item in items
        ]

    def _from_archive(self, item: BlobFinding, read: Sequence[BlobSource]) -> BlobFinding:
        """Records the repair: an import committed the blob.

        Its origin is the first of the archives read again that has the blob.
        """
        having = {source.id for source in self._catalog.sources_of_blob(item.digest)}
        path = next((source.path for source in read if source.id in having), "")
        self._catalog.verification.record_repair(item.digest, self._clock(), "archive", path)
        return item.repaired("archive", path)

    def _from_runtimes(self, item: BlobFinding, stop: Stop) -> BlobFinding:
        for copies in self._runtimes.copies():
            try:
                ingest = self._copied(copies, item, stop)
            except (UnavailableError, NotFoundError, OSError) as exc:
                log.info(
                    "cannot copy blob %s from %s: %s; trying the next runtime",
                    item.digest,
                    copies.runtime,
                    exc,
                )
                continue
            if ingest is not None:
                return self._take(item, ingest, "runtime", copies.runtime)
        return item

    def _copied(self, copies: RuntimeCopies, item: BlobFinding, stop: Stop) -> LocalIngest | None:
        """Ingests a runtime's copy of the blob; None if it has none with the right bytes."""
        blob = copies.copy(item.digest)
        if blob is None or blob.size_bytes != item.size_bytes:
            return None
        with blob.open() as file:
            if self._is_ours(item.digest, file):
                return None
            return self._ingest(item.digest, file, stop)

    def _ingest(self, digest: Digest, file: BinaryIO, stop: Stop) -> LocalIngest | None:
        ingest = self._store.put_all(_chunks(file, stop), digest.algorithm)
        if ingest.digest != digest:
            ingest.discard()
            return None
        return ingest

    def _is_ours(self, digest: Digest, file: BinaryIO) -> bool:
        """Returns True if the runtime's file is the quarantined one by another hard link."""
        try:
            found = os.fstat(file.fileno())
            kept = [q.path.stat() for q in self._quarantine.files() if q.digest == digest]
        except (OSError, io.UnsupportedOperation):
            return False
        return any((k.st_dev, k.st_ino) == (found.st_dev, found.st_ino) for k in kept)

    def _take(
        self, item: BlobFinding, ingest: LocalIngest, origin: Origin, source: str
    ) -> BlobFinding:
        """Commits the ingest and records the repair.

        If nobody needs the blob, GC deletes it later.
        """
        fault("repair.before_commit")
        with self._guard.shared():
            self._store.commit([ingest])
            fault("repair.after_commit")
            self._catalog.verification.record_repair(item.digest, self._clock(), origin, source)
        fault("repair.after_record")
        return item.repaired(origin, source)

    # hard links to the wrong bytes

    def mend_all(self, *, everything: bool = False) -> None:
        """Repairs every runtime's file of the repaired blobs, and deletes what is quarantined.

        Without `everything`, only the blobs whose wrong bytes still have another hard link.
        """
        states = {bad.digest for bad in self._catalog.bad_blobs()}
        for found in self._quarantine.files():
            if found.digest in states:
                continue
            if not self._catalog.known_blobs(among=[found.digest]):
                self._quarantine.drop(found.path)
            elif everything or found.other_names:
                self._mend(found.digest)

    def _mend(self, digest: Digest) -> list[RuntimeFile]:
        files: list[RuntimeFile] = []
        for copies in self._runtimes.copies():
            try:
                files.append(RuntimeFile(copies.runtime, copies.mend(digest)))
            except (UnavailableError, StoreError, OSError) as exc:
                log.warning(
                    "%s: cannot repair its file of blob %s: %s", copies.runtime, digest, exc
                )
                files.append(RuntimeFile(copies.runtime, "wrong"))
            if files[-1].state == "replaced":
                log.warning("%s: replaced its damaged file of blob %s", copies.runtime, digest)
        for found in self._quarantine.files():
            if found.digest == digest and _is_done(found, files):
                self._quarantine.drop(found.path)
        return files


def _is_done(found: Quarantined, files: Iterable[RuntimeFile]) -> bool:
    """Returns True if the quarantined file can be deleted.

    Every runtime's file is repaired, no hard link is left, and the disk could read the file.
    """
    is_right = all(file.state != "wrong" for file in files)
    return is_right and not found.other_names and not found.unreadable


def queue_again(catalog: Catalog, blobs: Iterable[Digest], now: float) -> list[BlobSource]:
    """Queues the archives that have these blobs to be imported again. Returns these archives.

    An archive that was imported by hand is queued only if its file is unchanged: a changed file
    would be another import.
    """
    found = {s.id: s for digest in blobs for s in catalog.sources_of_blob(digest)}
    sources = [source for _, source in sorted(found.items()) if _is_readable(source)]
    if sources:
        catalog.source_states.queue_again([source.id for source in sources], now, _REASON)
    return sources


def _is_readable(source: BlobSource) -> bool:
    if source.kind != "import":
        return True
    try:
        return str(stat_key(Path(source.path))) == source.stat_key
    except OSError:
        return False


def _chunks(file: BinaryIO, stop: Stop) -> Iterator[bytes]:
    """Yields the file in chunks. Raises StoppedError."""
    while chunk := file.read(CHUNK_BYTES):
        if stop():
            raise StoppedError("the repair was stopped")
        yield chunk
