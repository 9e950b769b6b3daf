"""Reconciliation: makes the store and the catalog agree on which blobs exist. Blocking.

Marks missing blobs as lost and queues their archives to be imported again. Deletes blobs that the
catalog does not know. Whether the bytes are right is for `airside.store.scrub`. Each function is
one bounded pass; the agent decides when.
"""

import logging

from airside.catalog.catalog import Catalog
from airside.oci.digest import Digest
from airside.store.gc import delete_unknown, unknown_blobs
from airside.store.local import LocalStore
from airside.store.lock import StoreLock
from airside.store.repair import queue_again

log = logging.getLogger("airside.reconcile")


def check_present(store: LocalStore, catalog: Catalog, guard: StoreLock, now: float) -> list[int]:
    """Compares names and sizes. Returns the ids of the sources queued because blobs are lost.

    Imports continue meanwhile. The catalog is read first, since it lists only what the store has;
    blobs that then look lost are checked again under the exclusive lock. Raises StoreError if the
    file system is gone.
    """
    if not _absent(store, catalog):
        return []
    store.check_working()
    with guard.exclusive():
        return _lose(store, catalog, _absent(store, catalog), now)


def _absent(store: LocalStore, catalog: Catalog) -> list[Digest]:
    return [digest for digest, size in catalog.blobs().items() if store.stat(digest) != size]


def _lose(store: LocalStore, catalog: Catalog, lost: list[Digest], now: float) -> list[int]:
    for digest in lost:
        log.error(
            "blob %s is missing or has a wrong size: marked lost, queueing its archives",
            digest,
        )
        store.delete(digest)
        catalog.verification.mark_blob(digest, "lost", now)
    return [source.id for source in queue_again(catalog, lost, now)]


def sweep_orphans(store: LocalStore, catalog: Catalog, guard: StoreLock) -> int:
    """Deletes blobs that the catalog does not know. Returns their number."""
    return len(delete_unknown(store, catalog, guard, unknown_blobs(store, catalog)))
