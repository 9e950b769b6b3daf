"""A start's recovery: store, catalog and index.json agree again, however the last process ended.

After an unclean stop, what was written last is hashed again and blobs that no document needs are
deleted. Where records were lost (`store.catalog_file`), names come from index.json or its copies,
documents from the blobs, and blobs that nothing explains are kept as unknown. Blocking; runs before
anything is served.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from airside.archive.directory import is_archive_directory
from airside.catalog.catalog import Catalog
from airside.catalog.identity import renew_identity
from airside.catalog.recorded_times import NOTED_TIME
from airside.core.errors import InputError, StorageFullError
from airside.oci.digest import Digest, parse_digest
from airside.store import reconcile
from airside.store.backups import Backups
from airside.store.catalog_file import CatalogFile
from airside.store.data_directory import Reserve, boot_id
from airside.store.found_documents import recover_documents
from airside.store.gc import unknown_blobs
from airside.store.index_json import IndexJsonWriter, rebuild_catalog
from airside.store.index_merge import merge_index
from airside.store.index_seal import index_generation
from airside.store.local import LocalStore
from airside.store.lock import StoreLock
from airside.store.lost_records import LOST_RECORDS, LostRecords
from airside.store.scrub import Scrub
from airside.store.whole_images import VerifiedBlobs

log = logging.getLogger("airside.node")


@dataclass(slots=True)
class Recovery:
    """Recovers one data directory for a start; the caller then writes index.json.

    Raises StoreError.
    """

    store: LocalStore
    catalog: Catalog
    guard: StoreLock
    index: IndexJsonWriter
    scrub: Scrub
    backups: Backups
    file: CatalogFile
    held: VerifiedBlobs

    def run(self, lost: LostRecords | None, now: float) -> None:
        """Recovers. `lost`: the loss of records that opening the catalog found.

        Marks the catalog as in use: it counts as unclean until `note_clean_stop`.
        """
        try:
            self._run(lost, now)
        finally:
            self.held.close()

    def _run(self, lost: LostRecords | None, now: float) -> None:
        catalog = self.catalog
        is_new = catalog.meta("clean") is None  # or was created again and not rebuilt completely
        if lost is None:
            lost = self._noticed(now, is_new=is_new)
        if lost is not None:
            self.file.begin(lost)
            renew_identity(self.catalog)
            catalog.take_loss()
            if is_new:
                catalog.settle_tags(now)  # none yet: each is settled when it is restored
                self.held.hash_ahead()
            lost = self._restore_names(lost, now, is_new=is_new)
        catalog.settle_tags(now)
        booted = boot_id()
        clean = catalog.meta("clean") == "1" and catalog.meta("boot_id") == booted
        catalog.set_meta({"clean": "0", "boot_id": booted})
        self.scrub.finish_interrupted()
        reconcile.check_present(self.store, catalog, self.guard, now)
        if lost is not None:
            self._keep_unknown(lost, now)
            return
        if clean:
            self.index.resume(catalog.meta("index") or "")
            return
        self.scrub.check_recent()
        self._hold_explained(self._sizes(unknown_blobs(self.store, catalog)), now)
        reconcile.sweep_orphans(self.store, catalog, self.guard)

    # lost records

    def _noticed(self, now: float, *, is_new: bool) -> LostRecords | None:
        """Returns a loss that the records themselves show."""
        if is_new:
            has_blobs = next(iter(self.store.digests()), None) is not None
            return LostRecords(now, "the catalog is empty, the store is not") if has_blobs else None
        if self.catalog.lost_commits:
            count = self.catalog.lost_commits
            return LostRecords(now, f"the last {count} changes of catalog.db are missing")
        if self.index.is_written(self.catalog.meta("index") or ""):
            return None
        if index_generation(self.store.read_index()) > self.catalog.generation:
            return LostRecords(now, "catalog.db is older than index.json")
        return None

    def _restore_names(self, lost: LostRecords, now: float, *, is_new: bool) -> LostRecords:
        if lost.restored_from:  # a copy of the catalog, which has the names
            lost = replace(lost, names=self.catalog.counts()["images"])
        raw, origin = self.store.read_index(), "index.json"
        copy = self.backups.newest()
        if copy is not None and not copy.is_catalog and copy.generation > index_generation(raw):
            raw, origin = self.backups.read_index(copy), str(copy)
        if raw is None or index_generation(raw) < 0:
            return lost
        try:
            if is_new:
                names, left_out = rebuild_catalog(self.held, self.catalog, raw, now, _is_present)
                return lost.named(origin, names, left_out)
            if index_generation(raw) > self.catalog.generation:
                names, left_out = merge_index(self.held, self.catalog, raw, now)
                return lost.named(lost.restored_from or origin, lost.names + names, left_out)
        except (InputError, KeyError, TypeError, ValueError) as exc:
            log.warning("%s cannot be read: %s; its names are not restored", origin, exc)
        return lost

    def _keep_unknown(self, lost: LostRecords, now: float) -> None:
        """Records the images that blobs contain, and keeps the blobs that nothing explains."""
        orphans = self._sizes(unknown_blobs(self.store, self.catalog))
        self.catalog.unknown.record(orphans, now)  # also those recorded below: kept if collected
        self._hold_explained(orphans, now)
        unknown = self.catalog.unknown_blobs()
        found = recover_documents(self.held, self.catalog, unknown, now)
        lost = replace(lost, documents=found)
        self.catalog.set_meta({LOST_RECORDS: lost.to_text()})
        self.file.done()
        log.warning(
            "records were lost (%s): %d names restored from %s, %d left out as incomplete, "
            "%d documents found without a name, %d unknown blobs kept: see airside status",
            lost.reason,
            lost.names,
            lost.restored_from or "nothing",
            lost.incomplete,
            found,
            len(self.catalog.unknown_blobs()),
        )

    def _hold_explained(self, orphans: dict[Digest, int], now: float) -> None:
        """Records the blobs again that a document explains though their own row is gone."""
        explained = self.catalog.explained_blobs(map(str, orphans)) if orphans else []
        held = {digest: orphans[digest] for digest in map(parse_digest, explained)}
        if held:
            self.catalog.unknown.hold(held, now)
            for digest, size in held.items():
                self.scrub.look(digest, size, lambda _count: None)

    def _sizes(self, digests: list[Digest]) -> dict[Digest, int]:
        return {digest: self.store.stat(digest) or 0 for digest in digests}


def note_clean_stop(catalog: Catalog, index: IndexJsonWriter, reserve: Reserve, now: float) -> None:
    """Record the time, and that the next start need not check what was written last.

    On a full disk this may fail: the failure is logged, and the next start checks.
    """
    clean = {"clean": "1", "index": index.state, NOTED_TIME: repr(now)}
    try:
        catalog.set_meta(clean)
    except StorageFullError:
        reserve.release_for_writing()
        try:
            catalog.set_meta(clean)
        except StorageFullError as exc:
            log.warning("%s: the next start checks what was written last", exc.message)


def _is_present(path: Path) -> bool:
    return path.is_file() or is_archive_directory(path)
