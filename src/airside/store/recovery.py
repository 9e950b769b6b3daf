"""A start's recovery: store, catalog and index.json agree again, however the last process ended.

After an unclean stop, what was written last is hashed again and blobs that no document needs are
deleted. A lost catalog is rebuilt from index.json. Blocking; runs before anything is served.
"""

import logging
from pathlib import Path

from airside.archive.directory import is_archive_directory
from airside.catalog.catalog import Catalog
from airside.core.errors import StorageFullError
from airside.store import reconcile
from airside.store.data_directory import Reserve, boot_id
from airside.store.index_json import IndexJsonWriter, rebuild_catalog
from airside.store.local import LocalStore
from airside.store.lock import StoreLock
from airside.store.scrub import Scrub

log = logging.getLogger("airside.node")


def recover(
    store: LocalStore,
    catalog: Catalog,
    guard: StoreLock,
    index: IndexJsonWriter,
    scrub: Scrub,
    now: float,
) -> None:
    """Repair the data directory for a start; the caller then writes index.json. Raises StoreError.

    Marks the catalog as in use: it counts as unclean until `note_clean_stop`.
    """
    restored = 0
    if catalog.meta("clean") is None:  # new, or created again and not rebuilt completely
        restored = rebuild_catalog(store, catalog, now, _is_present)
        if restored:
            log.warning("the catalog was lost: %d names restored from index.json", restored)
    catalog.settle_tags(now)
    booted = boot_id()
    clean = catalog.meta("clean") == "1" and catalog.meta("boot_id") == booted
    catalog.set_meta({"clean": "0", "boot_id": booted})
    scrub.finish_interrupted()
    reconcile.check_present(store, catalog, guard, now)
    if clean:
        index.resume(catalog.meta("index") or "")
        return
    if not restored:  # else every blob was hashed just now
        scrub.check_recent()
    reconcile.sweep_orphans(store, catalog, guard)


def note_clean_stop(catalog: Catalog, index: IndexJsonWriter, reserve: Reserve) -> None:
    """Record that the next start need not check what was written last.

    On a full disk this may fail: the failure is logged, and the next start checks.
    """
    clean = {"clean": "1", "index": index.state}
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
