"""Garbage collection: the catalog says what nothing holds, the store deletes it. Blocking.

Imports, pushes and pulls go on meanwhile. Where the store's file system is nearly full, more is
collected than usual, the oldest first, before anything fails for lack of space (ADR 0020).
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from airside.catalog.catalog import Catalog
from airside.catalog.retention import Policy, Pressure, Rule, next_pressure
from airside.core.logs import human_bytes
from airside.core.settings import Settings
from airside.oci.digest import Digest
from airside.store.filesystem import free_bytes, translated
from airside.store.leases import BlobLeases
from airside.store.local import LocalStore
from airside.store.lock import StoreLock

log = logging.getLogger("airside.gc")

_AT_ONCE = 200
_IN_VAIN_SECONDS = 30.0
"""After a collection that made no room, the next for lack of space comes after this."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a blob that was deleted: what the disk got back, and what another name of it holds."""

    freed_bytes: int = 0
    linked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Freed:
    """One line of a collection: what went, why, and the bytes that the disk got back."""

    reference: str
    digest: str
    reason: str
    blobs: int
    freed_bytes: int
    linked_bytes: int = 0
    """What it gives back when the other names go: a containerd has the same files."""


@dataclass(frozen=True, slots=True)
class Space:
    """The store's file system. `low`: more is collected than usual."""

    free_bytes: int
    min_free_bytes: int
    low_space_bytes: int

    @property
    def wanted_bytes(self) -> int:
        return self.min_free_bytes + self.low_space_bytes

    @property
    def low(self) -> bool:
        return self.free_bytes < self.wanted_bytes


def unknown_blobs(store: LocalStore, catalog: Catalog) -> list[Digest]:
    """What the store has and the catalog does not speak of; what is committed from now on is not.

    It may be known by the time that it is looked at.
    """
    held = list(store.digests())  # before the catalog is asked
    known = catalog.known_blobs()
    return [digest for digest in held if digest not in known]


def delete_unknown(
    store: LocalStore, catalog: Catalog, guard: StoreLock, blobs: Sequence[Digest]
) -> dict[Digest, Size]:
    """Delete what the catalog does not know, a few at a time; gives what each was.

    Imports go on in between, and what they brought meanwhile stays.
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
    """Collects for one data directory. Thread-safe."""

    store: LocalStore
    catalog: Catalog
    guard: StoreLock
    settings: Settings
    rules: tuple[Rule, ...]
    leases: BlobLeases
    _room: threading.Lock = field(default_factory=threading.Lock)
    _in_vain_at: float = float("-inf")

    def collect(
        self, now: float, *, dry_run: bool = False, pressure: Pressure | None = None
    ) -> list[Freed]:
        """Delete what retention no longer holds, or only tell what would go; a line for each."""
        policy = self._policy(now, pressure or Pressure())
        with self.guard.shared():  # a merged index may be written
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
        if freed and not dry_run:
            blobs, size = sum(line.blobs for line in freed), sum(f.freed_bytes for f in freed)
            log.info("collected %d blobs, %s freed", blobs, human_bytes(size))
        return freed

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

    # lack of space

    def space(self) -> Space:
        """How much room the store has. Raises StoreError."""
        path = self.settings.data
        with translated("cannot ask the free space of", path):
            free = free_bytes(path)
        return Space(free, self.settings.min_free_bytes, self.settings.low_space_bytes)

    def keep_room(self, now: float) -> bool:
        """Collect more than usual if the disk is nearly full; tells whether anything went."""
        return self.space().low and self.make_room(now)

    def make_room(self, now: float, short_bytes: int = 0) -> bool:
        """Collect until there is room, or `short_bytes` more; tells whether it helped.

        First what goes anyway, then earlier versions, then images that nothing backs or that came
        from an upstream registry, the oldest first; never what a present archive, a push or an
        import by hand holds. What a containerd has too counts as freed: it gives it back when our
        name for it is withdrawn.
        """
        with self._room:
            space = self.space()
            wanted = max(space.wanted_bytes, space.free_bytes + short_bytes)
            if space.free_bytes >= wanted:
                return True  # another made it meanwhile
            if time.monotonic() - self._in_vain_at < _IN_VAIN_SECONDS:
                return False
            log.warning(
                "%s free of %s wanted: collecting",
                human_bytes(space.free_bytes),
                human_bytes(wanted),
            )
            freed = self._collect_until(now, wanted)
            if not freed:
                self._in_vain_at = time.monotonic()
            return freed

    def something_changed(self) -> None:
        """What could not be collected before may be now."""
        self._in_vain_at = float("-inf")

    def _collect_until(self, now: float, wanted_bytes: int) -> bool:
        lines, count = self.collect(now), 1
        while self.space().free_bytes + sum(f.linked_bytes for f in lines) < wanted_bytes:
            versions, unbacked = self.catalog.ages()
            if not versions and not unbacked:
                break
            lines += self.collect(now, pressure=next_pressure(versions, unbacked, count))
            count *= 2
        return bool(lines)
