"""Garbage collection: the catalog finds the blobs that nothing references, the store deletes them.

Blocking. Imports, pushes and pulls continue meanwhile. When the file system of the store is nearly
full, more is collected than usual, the oldest first, before anything fails for lack of space (ADR
0020).
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from airside.catalog.catalog import Catalog
from airside.catalog.retention import Policy, Pressure, Rule, next_pressure
from airside.core.disk_space import free_bytes, total_bytes
from airside.core.logs import human_bytes
from airside.core.settings import Settings
from airside.oci.digest import Digest
from airside.ports.measures import UNMEASURED, StoreMeter
from airside.store.filesystem import translated
from airside.store.leases import BlobLeases
from airside.store.local import LocalStore
from airside.store.lock import StoreLock

log = logging.getLogger("airside.gc")

_AT_ONCE = 200
_UNKNOWN = "unknown: nothing has recorded it since records were lost"
_IN_VAIN_SECONDS = 30.0
"""The wait after a collection for space that freed nothing, before the next one."""


@dataclass(frozen=True, slots=True)
class Size:
    """The bytes of a deleted blob: freed on disk, and held by another hard link."""

    freed_bytes: int = 0
    linked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Freed:
    """One line of a collection's report: the name or document, the reason, and the bytes freed."""

    reference: str
    digest: str
    reason: str
    blobs: int
    freed_bytes: int
    linked_bytes: int = 0
    """Bytes that are freed when the other hard links are deleted: those of a containerd."""


@dataclass(frozen=True, slots=True)
class Space:
    """The free space of the store's file system. `low`: more is collected than usual."""

    free_bytes: int
    min_free_bytes: int
    low_space_bytes: int
    total_bytes: int = 0
    low_space_percent: float = 0.0

    @property
    def wanted_bytes(self) -> int:
        """The free bytes below which more is collected than usual."""
        share = int(self.total_bytes * self.low_space_percent / 100)
        return max(self.uploads_bytes, share)

    @property
    def uploads_bytes(self) -> int:
        """The free bytes below which idle uploads end, too."""
        return self.min_free_bytes + self.low_space_bytes

    @property
    def low(self) -> bool:
        return self.free_bytes < self.wanted_bytes


def unknown_blobs(store: LocalStore, catalog: Catalog) -> list[Digest]:
    """Returns the blobs in the store that the catalog does not know.

    Blobs committed during the call are not among them. The catalog may know one of them by the time
    it is deleted: check again under the lock.
    """
    held = list(store.digests())  # before the catalog is read: it records after a commit
    known = catalog.known_blobs()
    return [digest for digest in held if digest not in known]


def delete_unknown(
    store: LocalStore, catalog: Catalog, guard: StoreLock, blobs: Sequence[Digest]
) -> dict[Digest, Size]:
    """Deletes those of the blobs that the catalog does not know. Returns the size of each.

    Deletes in batches: imports continue in between, and the blobs that they record stay.
    """
    freed: dict[Digest, Size] = {}
    for start in range(0, len(blobs), _AT_ONCE):
        guard.give_way()
        with guard.exclusive():
            some = blobs[start : start + _AT_ONCE]
            known = catalog.known_blobs(among=some)
            freed |= {digest: _delete(store, digest) for digest in some if digest not in known}
    return freed


def _delete(store: LocalStore, digest: Digest) -> Size:
    size, freed = store.stat(digest) or 0, store.delete(digest)
    return Size(freed, size - freed)


@dataclass(slots=True)
class GarbageCollector:
    """Collects the garbage of one data directory. Thread-safe."""

    store: LocalStore
    catalog: Catalog
    guard: StoreLock
    settings: Settings
    rules: tuple[Rule, ...]
    leases: BlobLeases
    give_way: Callable[[int], bool]
    """Cancels idle uploads until so many bytes more fit. Returns True if they fit."""
    kubelet_percent: Callable[[int], float]
    """Returns the percentage to keep free for kubelet of a file system with so many bytes."""
    meter: StoreMeter = UNMEASURED
    _room: threading.Lock = field(default_factory=threading.Lock)
    _in_vain_at: float = float("-inf")

    def collect(
        self, now: float, *, dry_run: bool = False, pressure: Pressure | None = None
    ) -> list[Freed]:
        """Deletes what retention no longer holds; a dry run only reports it.

        Returns a line for each name or document.
        """
        started = time.monotonic()
        policy = self._policy(now, pressure or Pressure())
        with self.guard.shared():  # the collection may commit a merged index
            found = self.catalog.collect(
                policy,
                recent=self.leases.active(),
                condemn=self.leases.condemn,
                dry_run=dry_run,
            )
        if dry_run:
            sizes = self._sizes(found.blobs)
        else:
            sizes = delete_unknown(self.store, self.catalog, self.guard, found.blobs)
        freed = []
        for item in found.items:
            own = [sizes.get(blob, Size()) for blob in item.blobs]
            total, linked = sum(s.freed_bytes for s in own), sum(s.linked_bytes for s in own)
            freed.append(Freed(item.reference, item.digest, item.reason, len(own), total, linked))
        blobs, size = sum(line.blobs for line in freed), sum(f.freed_bytes for f in freed)
        if not dry_run:
            self.meter.collected(blobs, size, time.monotonic() - started)
        if freed and not dry_run:
            log.info("collected %d blobs: %s freed", blobs, human_bytes(size))
        return freed

    def delete_kept(self, *, dry_run: bool) -> list[Freed]:
        """Deletes the blobs without a record that are kept since records were lost.

        Returns a line for each.
        """
        blobs = list(self.catalog.unknown_blobs())
        if dry_run:
            sizes = self._sizes(blobs)
        else:
            self.catalog.unknown.forget(blobs)
            sizes = delete_unknown(self.store, self.catalog, self.guard, blobs)
        return [
            Freed("", str(blob), _UNKNOWN, 1, size.freed_bytes, size.linked_bytes)
            for blob, size in sizes.items()
        ]

    def _policy(self, now: float, pressure: Pressure) -> Policy:
        return Policy(
            now,
            self.settings.retention,
            self.settings.unbacked_after_seconds,
            self.settings.grace_seconds,
            self.rules,
            pressure,
            self.settings.upstream_keep_seconds,
        )

    def _sizes(self, blobs: Sequence[Digest]) -> dict[Digest, Size]:
        sizes = {}
        for digest in blobs:
            freed = self.store.freed_bytes(digest)
            sizes[digest] = Size(freed, (self.store.stat(digest) or 0) - freed)
        return sizes

    # low disk space

    def space(self) -> Space:
        """Returns the free space of the store's file system. Raises StoreError."""
        path = self.settings.data
        with translated("cannot read the free space of", path):
            free, total = free_bytes(path), total_bytes(path)
        setting = self.settings.low_space_percent
        percent = self.kubelet_percent(total) if setting == "auto" else float(setting)
        least, low = self.settings.min_free_bytes, self.settings.low_space_bytes
        return Space(free, least, low, total, percent)

    def keep_room(self, now: float, needed_bytes: int = 0) -> bool:
        """Collects more than usual if the disk is nearly full, or if so many bytes do not fit.

        Returns True if anything was deleted.
        """
        space = self.space()
        short = max(space.min_free_bytes + needed_bytes - space.free_bytes, 0)
        return (space.low or short > 0) and self.make_room(now, short)

    def make_room(self, now: float, short_bytes: int = 0) -> bool:
        """Collects until there is room, or `short_bytes` more. Returns True if that freed space.

        First idle uploads, then what expires anyway, then earlier versions, then images that
        nothing backs or that came from an upstream registry, the oldest first; never what a present
        archive, a push or an import by hand holds. Bytes that a containerd has too count as freed:
        it frees them when our name for the image is withdrawn.
        """
        with self._room:
            space = self.space()
            wanted = max(space.wanted_bytes, space.free_bytes + short_bytes)
            uploads = max(space.uploads_bytes, space.free_bytes + short_bytes)
            gave_way = self.give_way(uploads - space.min_free_bytes) and uploads == wanted
            if gave_way or space.free_bytes >= wanted:
                return True  # another thread freed it meanwhile
            if time.monotonic() - self._in_vain_at < _IN_VAIN_SECONDS:
                return False
            log.log(
                logging.WARNING if space.free_bytes < uploads else logging.INFO,
                "low disk space: %s free, %s wanted; collecting garbage now",
                human_bytes(space.free_bytes),
                human_bytes(wanted),
            )
            freed = bool(self._collect_until(now, wanted))
            if not freed:
                self._in_vain_at = time.monotonic()
            return freed

    def something_changed(self) -> None:
        """Ends the wait after a collection that freed nothing: there may be garbage now."""
        self._in_vain_at = float("-inf")

    def collect_by_hand(self, now: float, *, dry_run: bool) -> list[Freed]:
        """Collects as much as the free space asks for now; a dry run only reports it.

        Returns a line for each name or document.
        """
        wanted = self.space().wanted_bytes
        if dry_run:
            return self._preview(now, wanted)
        with self._room:
            return self._collect_until(now, wanted)

    def _preview(self, now: float, wanted_bytes: int) -> list[Freed]:
        """Returns what would be collected until so many bytes are free."""
        free, (versions, unbacked) = self.space().free_bytes, self.catalog.ages()
        lines, count, most = self.collect(now, dry_run=True), 1, len(versions) + len(unbacked)
        while most and free + sum(f.freed_bytes + f.linked_bytes for f in lines) < wanted_bytes:
            pressure = next_pressure(versions, unbacked, min(count, most))
            lines = self.collect(now, dry_run=True, pressure=pressure)
            if count >= most:
                break
            count *= 2
        return lines

    def _collect_until(self, now: float, wanted_bytes: int) -> list[Freed]:
        lines, count = self.collect(now), 1
        while self.space().free_bytes + sum(f.linked_bytes for f in lines) < wanted_bytes:
            versions, unbacked = self.catalog.ages()
            if not versions and not unbacked:
                break
            lines += self.collect(now, pressure=next_pressure(versions, unbacked, count))
            count *= 2
        return lines
