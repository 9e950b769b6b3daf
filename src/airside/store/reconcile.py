"""Desired against actual: does the store hold what the catalog says, and nothing else? Blocking.

What is lost is marked, and the archives that bring it are read again. What the catalog does not
know goes. Whether the bytes are right is for `airside.store.scrub`. Each function is one bounded
pass; the agent decides when.
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
    """Compare names and sizes; gives the sources to read again because blobs are lost.

    Imports go on meanwhile: the catalog is asked first, as it speaks only of what the store has,
    and what then looks lost is looked at again while nobody commits or deletes. Raises StoreError
    where the file system is gone.
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
        log.error("blob %s is in the catalog but not whole in the store", digest)
        store.delete(digest)
        catalog.verification.mark_blob(digest, "lost", now)
    return [source.id for source in queue_again(catalog, lost, now)]


def sweep_orphans(store: LocalStore, catalog: Catalog, guard: StoreLock) -> int:
    """Delete blobs that the catalog does not know; returns how many."""
    return len(delete_unknown(store, catalog, guard, unknown_blobs(store, catalog)))
