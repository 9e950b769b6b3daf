"""Desired against actual: does the store hold what the catalog says, and nothing else? Blocking.

What is lost is marked, and the archives that bring it are read again. What nothing holds goes.
Whether the bytes are right is for `airside.scrub`. Each function is one bounded pass; the agent
decides when.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from airside.catalog.record import Catalog
from airside.config import Settings
from airside.oci.digest import Digest
from airside.repair import queue_again
from airside.store.guard import StoreGuard
from airside.store.local import LocalStore

log = logging.getLogger("airside.reconcile")

_AT_ONCE = 200


def check_present(store: LocalStore, catalog: Catalog, guard: StoreGuard, now: float) -> list[int]:
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
        catalog.mark_blob(digest, "lost", now)
    return [source.id for source in queue_again(catalog, lost, now)]


def sweep_orphans(store: LocalStore, catalog: Catalog, guard: StoreGuard) -> int:
    """Delete blobs that the catalog does not know; returns how many."""
    held = list(store.digests())  # first: what is committed from now on is none of them
    known = catalog.known_blobs()
    return len(_delete(store, catalog, guard, [d for d in held if d not in known]))


def _delete(
    store: LocalStore, catalog: Catalog, guard: StoreGuard, blobs: Sequence[Digest]
) -> dict[Digest, int]:
    """Delete what the catalog does not know, a few at a time; gives the bytes freed by each.

    Imports go on in between, and what they brought meanwhile stays.
    """
    freed: dict[Digest, int] = {}
    for start in range(0, len(blobs), _AT_ONCE):
        guard.give_way()
        with guard.exclusive():
            some = blobs[start : start + _AT_ONCE]
            known = catalog.known_blobs(among=some)
            freed |= {digest: store.delete(digest) for digest in some if digest not in known}
    return freed


@dataclass(frozen=True, slots=True)
class Freed:
    """One line of a collection: what went, why, and the bytes that the disk got back."""

    reference: str
    digest: str
    reason: str
    blobs: int
    freed_bytes: int


def collect_garbage(
    store: LocalStore,
    catalog: Catalog,
    guard: StoreGuard,
    settings: Settings,
    now: float,
    *,
    dry_run: bool = False,
) -> list[Freed]:
    """Delete what retention no longer holds, or only tell what would go."""
    with guard.shared():  # a merged index may be written
        found = catalog.collect(
            now,
            retention=settings.retention,
            unbacked_after_seconds=settings.unbacked_after_seconds,
            dry_run=dry_run,
        )
    if dry_run:
        sizes = {digest: store.freed_bytes(digest) for digest in found.blobs}
    else:
        sizes = _delete(store, catalog, guard, found.blobs)
    freed = [
        Freed(
            item.reference,
            item.digest,
            item.reason,
            len(item.blobs),
            sum(sizes.get(blob, 0) for blob in item.blobs),
        )
        for item in found.items
    ]
    if freed and not dry_run:
        blobs, total = sum(line.blobs for line in freed), sum(line.freed_bytes for line in freed)
        log.info("collected %d blobs, %d bytes freed", blobs, total)
    return freed
