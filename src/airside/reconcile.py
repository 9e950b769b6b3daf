"""Desired against actual: does the store hold what the catalog says, and nothing else? Blocking.

What is lost or wrong is marked, and the archives that bring it are read again. What the catalog
does not know goes. Each function is one bounded pass; the agent decides when.
"""

import logging
from pathlib import Path

from airside.catalog.record import Catalog
from airside.errors import NotFoundError
from airside.gc import delete_unknown
from airside.observe import human_bytes
from airside.oci.digest import Digest
from airside.store.guard import StoreGuard
from airside.store.local import LocalStore

log = logging.getLogger("airside.reconcile")

RECHECK_SECONDS = 60.0
"""After an unclean stop, what was written so shortly before the last write is hashed again."""


def check_present(store: LocalStore, catalog: Catalog, guard: StoreGuard, now: float) -> list[int]:
    """Compare names and sizes; gives the sources to read again because blobs are lost.

    Imports go on meanwhile: the catalog is asked first, as it speaks only of what the store has,
    and what then looks lost is looked at again while nobody commits or deletes.
    """
    if not _absent(store, catalog):
        return []
    with guard.exclusive():
        return _lose(store, catalog, _absent(store, catalog), now)


def _absent(store: LocalStore, catalog: Catalog) -> list[Digest]:
    return [digest for digest, size in catalog.blobs().items() if store.stat(digest) != size]


def check_recent(store: LocalStore, catalog: Catalog, quarantine: Path, now: float) -> list[int]:
    """Hash again what was written last; wrong blobs are quarantined. Gives sources as above."""
    recent = catalog.blobs(verified_since=catalog.last_verified() - RECHECK_SECONDS)
    if recent:
        size = human_bytes(sum(recent.values()))
        log.info("the last stop was not clean: what was written last is read again, %s", size)
    wrong: list[Digest] = []
    for digest in recent:
        try:
            found = store.hash_blob(digest)
        except NotFoundError:
            continue  # check_present tells
        if found != digest:
            log.error("blob %s hashes to %s: quarantined", digest, found)
            store.quarantine(digest, quarantine)
            catalog.mark_blob(digest, "quarantined", now)
            wrong.append(digest)
    return _read_again(catalog, wrong, now)


def _lose(store: LocalStore, catalog: Catalog, lost: list[Digest], now: float) -> list[int]:
    for digest in lost:
        log.error("blob %s is in the catalog but not whole in the store", digest)
        store.delete(digest)
        catalog.mark_blob(digest, "lost", now)
    return _read_again(catalog, lost, now)


def _read_again(catalog: Catalog, wrong: list[Digest], now: float) -> list[int]:
    sources = sorted({s for digest in wrong for s in catalog.sources_of_blob(digest)})
    if sources:
        catalog.read_again(sources, now, "a blob that it brought is lost: it is read again")
    return sources


def sweep_orphans(store: LocalStore, catalog: Catalog, guard: StoreGuard) -> int:
    """Delete blobs that the catalog does not know; returns how many."""
    held = list(store.digests())  # first: what is committed from now on is none of them
    known = catalog.known_blobs()
    return len(delete_unknown(store, catalog, guard, [d for d in held if d not in known]))
