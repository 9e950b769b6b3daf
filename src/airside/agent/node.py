"""Composition of the objects that work on one data directory. Blocking.

The agent, and the commands that work without one, open it with `open_node`, which recovers from an
unclean stop (`airside.store.recovery`) before anything is served.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from airside.archive.planning_room import PlanningRoom
from airside.archive.sources import Reader
from airside.archive.tar.window_budget import WindowBudget
from airside.catalog.catalog import Catalog
from airside.catalog.identity import identity_of, settle_identity
from airside.catalog.model import TagMove
from airside.catalog.retention import read_rules
from airside.containerd.kubelet_space import KubeletThresholds
from airside.containerd.pull_records import PullRecords
from airside.core.clock import Clock
from airside.core.disk_space import DiskSpace
from airside.core.errors import StoreError
from airside.core.host_root import host_root
from airside.core.listeners import Listeners
from airside.core.memory_account import MemoryAccount
from airside.core.settings import Settings
from airside.diagnostics.missing_images import MissingImages
from airside.importer.importer import Importer
from airside.importer.list_importer import ListImporter
from airside.importer.service import ImportService
from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.oci.reference import Repository
from airside.ports.runtime_set import RuntimeSet
from airside.registry.documents.recent_misses import RecentMisses
from airside.registry.proxy.cache_writer import CacheWriter
from airside.registry.push.backend import Backend
from airside.registry.push.group_commit import GroupCommit
from airside.registry.push.pusher import Pusher
from airside.registry.push.uploads import Uploads
from airside.registry.rules.read_through import Policy, ReadThrough
from airside.store import reconcile
from airside.store.backups import Backups
from airside.store.catalog_file import CatalogFile
from airside.store.data_directory import Reserve, boot_id, open_data_directory
from airside.store.gc import Freed, GarbageCollector
from airside.store.index_json import IndexJsonWriter
from airside.store.leases import BlobLeases
from airside.store.local import LocalStore
from airside.store.lock import StoreLock
from airside.store.lost_records import LOST_RECORDS
from airside.store.proofs import Proofs
from airside.store.quarantine import Quarantine
from airside.store.recovery import Recovery, note_clean_stop
from airside.store.scrub import Scrub
from airside.store.verified import DAY_SECONDS, VerifiedFiles
from airside.store.whole_images import VerifiedBlobs
from airside.telemetry.meters import Meters

log = logging.getLogger("airside.node")

_BEHIND_SECONDS = 60.0


@dataclass(slots=True)
class Node:
    """The objects that work on one data directory. Thread-safe as they are."""

    settings: Settings
    store: LocalStore
    catalog: Catalog
    importer: Importer
    lists: ListImporter
    imports: ImportService
    index: IndexJsonWriter
    index_outdated: Listeners
    """Notified when a push or a pull-through changed what `index.json` must say."""
    guard: StoreLock
    scrub: Scrub
    windows: WindowBudget
    document_memory: MemoryAccount
    pusher: Pusher
    garbage: GarbageCollector
    cache_writer: CacheWriter
    runtimes: RuntimeSet
    read_through: ReadThrough
    missing: MissingImages
    misses: RecentMisses
    reserve: Reserve
    backups: Backups
    clock: Clock
    meters: Meters
    """Counts the work of this process."""
    _repair: threading.Lock = field(default_factory=threading.Lock)

    @property
    def identity(self) -> str:
        """The ID that marks this node's objects in a runtime; fixed while the process runs."""
        return identity_of(self.catalog)

    def keep_time(self) -> None:
        """Believe a clock that jumped and was steady since; note the time.

        A catalog that cannot be written is logged only: it must not keep others from making room.
        """
        try:
            self._keep_time()
        except StoreError as exc:
            log.warning("the time is not noted: %s; the next self-repair tries again", exc.message)

    def _keep_time(self) -> None:
        correction = self.clock.pending()
        if correction is not None:
            count = self.catalog.times.correct(correction)
            self.clock.believe(correction)
            log.log(
                logging.WARNING if count else logging.INFO,
                "the clock is %d s past the time that was counted, by a stop or a jump, and was "
                "steady since: believed; %d recorded times corrected",
                correction.by_seconds,
                count,
            )
        behind = self.clock.behind_seconds
        if behind > _BEHIND_SECONDS:
            log.warning(
                "the clock of this host is %d s behind the last recorded time: is it right? Ages "
                "are counted on from there",
                behind,
            )
        self.catalog.times.note(self.clock.ages())

    def reconcile(self) -> list[tuple[int, Path]]:
        """Run one pass of self-repair. Returns the archives (source id, path) to import again."""
        with self._repair:
            self.keep_time()
            self.scrub.finish_interrupted()
            self.scrub.repair.mend_all()
            reconcile.check_present(self.store, self.catalog, self.guard, self.clock())
            self.collect_garbage()
            self.garbage.keep_room(self.clock.ages())
            self.reserve.restore()
            reconcile.sweep_orphans(self.store, self.catalog, self.guard)
            self.importer.write_index()
            return self.imports.unread()

    def collect_garbage(self, *, dry_run: bool = False) -> list[Freed]:
        """Delete what retention no longer holds, or only report it. Returns a line for each."""
        return self.garbage.collect(self.clock.ages(), dry_run=dry_run)

    def clean(self, *, dry_run: bool, unknown: bool = False) -> list[Freed]:
        """Collect garbage by hand. Returns each deleted thing and the reason.

        `unknown`: also the blobs without a record that are kept since records were lost.
        """
        with self._repair:
            freed = self._end_uploads(dry_run=dry_run)
            freed += self.garbage.collect_by_hand(self.clock.ages(), dry_run=dry_run)
            if unknown:
                freed += self.garbage.delete_kept(dry_run=dry_run)
        if not dry_run:
            self.importer.write_index()
        return freed

    def _end_uploads(self, *, dry_run: bool) -> list[Freed]:
        """Cancel the uploads that nobody writes to. Returns a line for each."""
        uploads, lines = self.pusher.uploads, []
        for upload in uploads.idle():
            size = upload.offset
            if not dry_run:
                uploads.cancel(upload)
            lines.append(Freed(str(upload.repository), "", "an upload that was not ended", 1, size))
        return lines

    def acknowledge_loss(self) -> bool:
        """Ends the report of lost records in `status`. Returns False if there was none."""
        found = bool(self.catalog.meta(LOST_RECORDS))
        if found:
            self.catalog.set_meta({LOST_RECORDS: ""})
        return found

    def save_index(self) -> None:
        """Back `index.json` up. A failure is logged only: the next change tries again.

        On a full disk nothing is copied: the rest is for the catalog.
        """
        try:
            space = self.garbage.space()
            if space.free_bytes < space.min_free_bytes:
                return
            self.backups.save_index(self.store.root / "index.json")
        except StoreError as exc:
            log.warning("index.json is not backed up: %s", exc.message)

    def save_catalog(self) -> bool:
        """Back the catalog up, unless space is low. Returns True if so. Raises StoreError."""
        if self.garbage.space().low:
            return False
        self.backups.save_catalog(self.catalog)
        return True

    def remove(self, removals: Mapping[str, str]) -> list[TagMove]:
        """Record removed archives: path → policy (`unpin`, `delete`, `keep`)."""
        self.garbage.something_changed()
        with self.guard.shared():  # a merged index may be written
            return self.catalog.source_states.remove(removals, self.clock())

    def roll_back(self, repository: Repository, tag: str, digest: Digest | None = None) -> TagMove:
        """Point a tag at an earlier version. Raises NotFoundError."""
        with self.guard.shared():
            move = self.catalog.rollbacks.roll_back(repository, tag, self.clock(), digest=digest)
        self.importer.write_index()
        return move


@contextmanager
def open_node(
    settings: Settings,
    *,
    wall: Callable[[], float] = time.time,
    meters: Meters | None = None,
) -> Iterator[Node]:
    """Open the data directory exclusively. Raises ConflictError with the other pid, StoreError.

    `wall`: the clock of the host, which may lie. `meters`: counts the work.
    """
    data = settings.data
    with open_data_directory(data, group=settings.data_group) as reserve:
        space = DiskSpace(settings.min_free_bytes)
        proofs = Proofs(data, boot_id())
        verified = VerifiedFiles(settings.verify_reads_after_seconds or DAY_SECONDS, proofs=proofs)
        store = LocalStore(data / "oci", data / "ingest", space, verified)
        store.prepare()
        store.sweep_ingest()
        backups = Backups(data, space)
        file = CatalogFile(data, store, backups)
        lost = file.prepare(wall())
        catalog = Catalog(file.path, partial(_hold, store))
        try:
            clock = Clock(catalog.noted_time, wall=wall)
            node = _assemble(settings, store, catalog, reserve, clock, backups, meters or Meters())
            _recovery(node, file).run(lost, clock())
            settle_identity(catalog, file.path.stat().st_ino)
            node.keep_time()
            node.importer.write_index()
            node.save_index()
            reserve.restore()
            yield node
            node.save_index()
            note_clean_stop(catalog, node.index, reserve, clock.ages())
        finally:
            catalog.close()
            proofs.close()
        file.note_clean()


def _recovery(node: Node, file: CatalogFile) -> Recovery:
    return Recovery(
        node.store,
        node.catalog,
        node.guard,
        node.index,
        node.scrub,
        node.backups,
        file,
        VerifiedBlobs(node.store, node.settings.limits.document_bytes),
    )


def _hold(store: LocalStore, document: Document) -> None:
    """Make a document durable in the store."""
    if not store.is_right(document.digest):
        store.commit([store.put(document.raw, document.digest.algorithm)])


def _assemble(
    settings: Settings,
    store: LocalStore,
    catalog: Catalog,
    reserve: Reserve,
    clock: Clock,
    backups: Backups,
    meters: Meters,
) -> Node:
    windows, guard, runtimes = WindowBudget(settings.window_budget_bytes), StoreLock(), RuntimeSet()
    document_memory = MemoryAccount(settings.documents_budget_bytes)
    room = PlanningRoom(document_memory)
    reader = Reader(store, settings, windows, catalog.document, room, early=runtimes.early)
    index = IndexJsonWriter(store, catalog)
    importer = Importer(reader, store, catalog, index, guard, clock)
    lists = ListImporter(settings, catalog, runtimes, clock)
    leases = BlobLeases(settings.grace_seconds)
    rules = read_rules(settings.retention_rules)
    uploads = Uploads(
        store,
        max_uploads=settings.limits.uploads,
        max_client_uploads=settings.limits.client_uploads,
        max_bytes=settings.limits.upload_bytes,
        idle_seconds=settings.upload_seconds,
    )
    give_way, percent = uploads.give_way, KubeletThresholds(host_root(), settings.data).kept_percent
    garbage = GarbageCollector(
        store, catalog, guard, settings, rules, leases, give_way, percent, meters
    )
    backend = _backend(store, catalog, guard, garbage, uploads, clock, meters)
    read_through = ReadThrough(
        runtimes.contents, cast("Policy", settings.read_through), PullRecords().opened
    )
    misses = RecentMisses(settings.default_registry)
    quarantine = Quarantine(settings.data / "quarantine")
    return Node(
        settings=settings,
        store=store,
        catalog=catalog,
        importer=importer,
        lists=lists,
        imports=ImportService(settings, catalog, importer, lists, garbage, reserve, clock, meters),
        index=index,
        index_outdated=backend.index_outdated,
        guard=guard,
        scrub=Scrub(store, catalog, guard, quarantine, runtimes, clock, meters),
        windows=windows,
        document_memory=document_memory,
        pusher=Pusher(backend, settings, leases, read_through),
        garbage=garbage,
        cache_writer=CacheWriter(backend),
        runtimes=runtimes,
        read_through=read_through,
        missing=MissingImages(catalog, runtimes.connected, host_root(), asked=misses.names),
        misses=misses,
        reserve=reserve,
        backups=backups,
        clock=clock,
        meters=meters,
    )


def _backend(
    store: LocalStore,
    catalog: Catalog,
    guard: StoreLock,
    garbage: GarbageCollector,
    uploads: Uploads,
    clock: Clock,
    meters: Meters,
) -> Backend:
    return Backend(
        store,
        catalog,
        guard,
        GroupCommit(store, catalog, guard, clock),
        clock,
        uploads,
        make_room=lambda needed_bytes: garbage.keep_room(clock.ages(), needed_bytes),
        index_outdated=Listeners(),
        meter=meters,
    )
