"""The data directory opened: lock, format, store, catalog, importer. Blocking.

The agent and the commands that work without one stand on the same `open_node`. It leaves `DATA`
as if the last process had stopped cleanly: leftovers of an unclean stop are checked and swept
before anything is served.
"""

import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from airside.archive.directory import is_archive_directory, stat_key
from airside.archive.formats.image_list import is_list_name
from airside.archive.open_file import open_archive, translated_reading
from airside.archive.sources import Progress, Reader
from airside.archive.stop import Stop
from airside.archive.tar.window_budget import WindowBudget
from airside.catalog.catalog import Catalog
from airside.catalog.model import TagMove
from airside.catalog.retention import read_rules
from airside.core.errors import (
    AirsideError,
    ArchiveError,
    BlobCollectedError,
    ConfigError,
    ConflictError,
    StoppedError,
    StorageFullError,
    StoreError,
    UnavailableError,
)
from airside.core.listeners import Listeners
from airside.core.settings import FORMAT, MIB, Settings
from airside.importer.importer import Importer, Job, Outcome, job_at
from airside.importer.list_importer import ListImporter
from airside.importer.list_puller import is_list_file
from airside.importer.watch.directories import WatchedDirectories
from airside.oci.digest import Digest
from airside.oci.model import Document
from airside.oci.reference import Repository
from airside.ports.runtime_set import RuntimeSet
from airside.registry.proxy.cache_writer import CacheWriter
from airside.registry.push.backend import Backend
from airside.registry.push.group_commit import GroupCommit
from airside.registry.push.pusher import Pusher
from airside.registry.rules.read_through import Policy, ReadThrough
from airside.store import reconcile
from airside.store.filesystem import free_bytes, translated, write_durably
from airside.store.gc import Freed, GarbageCollector
from airside.store.index_json import IndexJsonWriter, rebuild_catalog
from airside.store.leases import BlobLeases
from airside.store.local import LocalStore
from airside.store.lock import StoreLock
from airside.store.quarantine import Quarantine
from airside.store.scrub import Scrub

log = logging.getLogger("airside.node")

CATALOG = "catalog.db"
RESERVE = "reserve"
RESERVE_BYTES = 4 * MIB
"""Kept aside in `DATA`, so that on a full disk the catalog can be opened and images are served."""
START_RESERVE_BYTES = 2 * MIB
"""What of it is left for the next start where the disk fills up while we run."""
_TRIES = 3


_NO_RUNTIME = (
    "{} is a list of images, which a container runtime pulls, and no agent that runs here is "
    "connected to one with CRI: import archives of the images instead"
)


@dataclass(slots=True)
class Node:
    """What works on one data directory. Thread-safe as its parts are."""

    settings: Settings
    store: LocalStore
    catalog: Catalog
    importer: Importer
    lists: ListImporter
    index: IndexJsonWriter
    index_outdated: Listeners
    """Notified when a push or a pull-through changed what `index.json` must say."""
    guard: StoreLock
    scrub: Scrub
    windows: WindowBudget
    pusher: Pusher
    garbage: GarbageCollector
    cache_writer: CacheWriter
    runtimes: RuntimeSet
    read_through: ReadThrough
    clock: Callable[[], float]
    _repair: threading.Lock = field(default_factory=threading.Lock)

    @property
    def identity(self) -> str:
        """Tells what is this node's in a runtime from what is another's; never changes."""
        found = self.catalog.meta("identity")
        if found is None:
            found = f"airside-{uuid.uuid4().hex[:8]}"
            self.catalog.set_meta({"identity": found})
        return found

    def run(self, job: Job, *, stop: Stop, progress: Progress, anew: bool = False) -> Outcome:
        """Import an archive, or pull a list (`anew`: whatever was refused). Raises as they do.

        Where the disk is full, room is made for it if that can be done.
        """
        self.garbage.keep_room(self.clock())
        try:
            return self._run(job, stop=stop, progress=progress, anew=anew)
        except StorageFullError as exc:
            if not self.make_room(exc):
                raise
            return self._run(job, stop=stop, progress=progress, anew=anew)

    def _run(self, job: Job, *, stop: Stop, progress: Progress, anew: bool) -> Outcome:
        """Begin again where a collection took what was not written because it was there."""
        for _ in range(_TRIES - 1):
            with suppress(BlobCollectedError):
                return self._run_once(job, stop=stop, progress=progress, anew=anew)
        return self._run_once(job, stop=stop, progress=progress, anew=anew)

    def _run_once(self, job: Job, *, stop: Stop, progress: Progress, anew: bool) -> Outcome:
        if not is_list_name(job.path.name):
            return self.importer.run(job, stop=stop, progress=progress)
        if is_list_file(job.path):
            return self.lists.run(job, stop=stop, progress=progress, anew=anew)
        self.catalog.source_states.set_kind(job.source_id, "archive")
        return self.importer.run(job, stop=stop, progress=progress)

    def import_file(self, path: Path, *, stop: Stop, progress: Progress) -> Outcome:
        """Import one archive now, by hand: it stays wanted until it is deleted. A list is pulled.

        Raises ArchiveError, ArchiveUnreadableError, NotFoundError, ArchiveChangedError,
        UnavailableError, StoppedError, StoreError.
        """
        path = path.absolute()
        if not _is_text(path):
            raise ArchiveError(f"{str(path)!r}: the name is not UTF-8: rename the file")
        with translated_reading(path):
            key = stat_key(path)
        if not path.is_dir():
            with open_archive(path):
                pass
        elif not is_archive_directory(path):
            raise ArchiveError(
                f"{path} is a directory without an image layout (index.json, blobs): name the "
                "archives in it",
                path=path,
            )
        if is_list_file(path) and not self.lists.available():
            raise UnavailableError(_NO_RUNTIME.format(path), path=path)
        files = [(str(path), str(key), key.size_bytes)]
        ids = self.catalog.source_states.settle(files, self.clock(), kind="import")
        job = Job(ids[str(path)], path)
        try:
            return self.run(job, stop=stop, progress=progress, anew=True)
        except AirsideError as exc:  # nobody tries again but the person: no passing state is left
            self.importer.failed(job, exc)
            raise

    def reconcile(self) -> list[tuple[int, Path]]:
        """One pass of self-repair; gives the archives (source id, path) to read again."""
        with self._repair:
            self.scrub.finish_interrupted()
            self.scrub.repair.mend_all()
            reconcile.check_present(self.store, self.catalog, self.guard, self.clock())
            self.collect_garbage()
            self.garbage.keep_room(self.clock())
            _keep_reserve(self.settings.data)
            reconcile.sweep_orphans(self.store, self.catalog, self.guard)
            self.importer.write_index()
            return self.unread()

    def read_now(self, sources: Sequence[tuple[int, Path]], stop: Stop) -> None:
        """Read archives again for what they brought; what becomes of each is recorded."""
        places = WatchedDirectories(self.settings.images)
        for source_id, path in sources:
            job = job_at(places, source_id, path)
            try:
                log_again = self.run(job, stop=stop, progress=lambda _done, _total: None)
                log.info("%s: read again: %s", path, log_again.state)
            except StoppedError:
                raise
            except AirsideError as exc:
                self.importer.failed(job, exc)
                log.warning("%s: %s", path, exc.message)

    def unread(self) -> list[tuple[int, Path]]:
        """Archives that are to be read again because something that they brought is lost."""
        return [(source_id, Path(path)) for source_id, path in self.catalog.unread()]

    def collect_garbage(self, *, dry_run: bool = False) -> list[Freed]:
        """Delete what retention no longer holds, or only tell what would go; a line for each."""
        return self.garbage.collect(self.clock(), dry_run=dry_run)

    def make_room(self, error: StorageFullError) -> bool:
        """The disk is full: collect more than usual, out of the reserve; tells if it helped.

        Not while the guard is held.
        """
        self.use_reserve()
        short = int(error.context.get("expected", 0)) - int(error.context.get("found", 0))
        try:
            helped = self.garbage.make_room(self.clock(), max(short, 0))
        except StoreError as exc:
            log.warning("no room could be made: %s", exc.message)
            return False
        self.importer.write_index()
        return helped

    def clean(self, *, dry_run: bool) -> list[Freed]:
        """Collect garbage for a person, who is told each thing that goes and why."""
        with self._repair:
            freed = self.collect_garbage(dry_run=dry_run)
        if not dry_run:
            self.importer.write_index()
        return freed

    def remove(self, removals: Mapping[str, str]) -> list[TagMove]:
        """Record archives that are gone: path → policy (`unpin`, `delete`, `keep`)."""
        self.garbage.something_changed()
        with self.guard.shared():  # a merged index may be written
            return self.catalog.source_states.remove(removals, self.clock())

    def use_reserve(self) -> None:
        """The disk is full: give back a part of the reserve, so that the catalog can be written."""
        with self._repair, suppress(OSError):
            _use_reserve(self.settings.data, leave_bytes=START_RESERVE_BYTES)

    def roll_back(self, repository: Repository, tag: str, digest: Digest | None = None) -> TagMove:
        """Point a tag at an earlier version. Raises NotFoundError."""
        with self.guard.shared():
            move = self.catalog.rollbacks.roll_back(repository, tag, self.clock(), digest=digest)
        self.importer.write_index()
        return move


@contextmanager
def open_node(settings: Settings, *, clock: Callable[[], float] = time.time) -> Iterator[Node]:
    """Open the data directory, alone. Raises ConflictError naming the other pid, StoreError."""
    data = settings.data
    with translated("cannot make the data directory", data):
        data.mkdir(parents=True, exist_ok=True)
        _use_reserve(data)
    with _locked(data):
        _check_format(data)
        store = LocalStore(data / "oci", data / "ingest", min_free_bytes=settings.min_free_bytes)
        store.prepare()
        store.sweep_ingest()
        catalog = Catalog(data / CATALOG, partial(_hold, store))
        try:
            node = _assemble(settings, store, catalog, clock)
            _recover(node)
            _keep_reserve(data)
            yield node
            _note_clean_stop(node)
        finally:
            catalog.close()


def _is_text(path: Path) -> bool:
    """Whether the catalog can have it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _hold(store: LocalStore, document: Document) -> None:
    """Make a document durable in the store."""
    if store.stat(document.digest) is None:
        store.commit([store.put(document.raw, document.digest.algorithm)])


def _assemble(
    settings: Settings, store: LocalStore, catalog: Catalog, clock: Callable[[], float]
) -> Node:
    windows = WindowBudget(settings.window_budget_bytes)
    guard = StoreLock()
    reader = Reader(store, settings, windows, catalog.document)
    index = IndexJsonWriter(store, catalog)
    importer = Importer(reader, store, catalog, index, guard, clock)
    runtimes = RuntimeSet()
    lists = ListImporter(settings, catalog, runtimes, clock)
    leases = BlobLeases(settings.grace_seconds)
    rules = read_rules(settings.retention_rules)
    garbage = GarbageCollector(store, catalog, guard, settings, rules, leases)
    arrivals = GroupCommit(store, catalog, guard, clock)
    read_through = ReadThrough(runtimes.contents, cast("Policy", settings.read_through))
    index_outdated = Listeners()
    backend = Backend(
        store,
        catalog,
        guard,
        arrivals,
        clock,
        make_room=lambda: garbage.keep_room(clock()),
        index_outdated=index_outdated,
    )
    pusher = Pusher(backend, settings, leases, read_through)
    cache_writer = CacheWriter(backend)
    quarantine = Quarantine(settings.data / "quarantine")
    scrub = Scrub(store, catalog, guard, quarantine, runtimes, clock)
    return Node(
        settings,
        store,
        catalog,
        importer,
        lists,
        index,
        index_outdated,
        guard,
        scrub,
        windows,
        pusher,
        garbage,
        cache_writer,
        runtimes,
        read_through,
        clock,
    )


def _recover(node: Node) -> None:
    """Bring store and catalog together after whatever happened before."""
    catalog, store, now = node.catalog, node.store, node.clock()
    restored = 0
    if catalog.meta("clean") is None:  # new, or made anew and not yet whole
        restored = rebuild_catalog(store, catalog, now, _is_there)
        if restored:
            log.warning("the catalog was lost: %d names restored from index.json", restored)
    catalog.settle_tags(now)
    booted = boot_id()
    clean = catalog.meta("clean") == "1" and catalog.meta("boot_id") == booted
    catalog.set_meta({"clean": "0", "boot_id": booted})
    node.scrub.finish_interrupted()
    reconcile.check_present(store, catalog, node.guard, now)
    if not clean:
        if not restored:  # else every blob was hashed just now
            node.scrub.check_recent()
        reconcile.sweep_orphans(store, catalog, node.guard)
    else:
        node.index.resume(catalog.meta("index") or "")
    node.importer.write_index()


def _note_clean_stop(node: Node) -> None:
    """So that the next start need not check what was written last; with a full disk it does."""
    clean = {"clean": "1", "index": node.index.state}
    try:
        node.catalog.set_meta(clean)
    except StorageFullError:
        node.use_reserve()
        try:
            node.catalog.set_meta(clean)
        except StorageFullError as exc:
            log.warning("%s: the next start checks what was written last", exc.message)


def _is_there(path: Path) -> bool:
    return path.is_file() or is_archive_directory(path)


def boot_id() -> str:
    """Another one after each boot; empty if it can't be told."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold the store's lock: one agent, or one command without an agent, at a time."""
    path = data / "lock"
    with translated("cannot open", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConflictError(
                f"{data} is in use by the process {pid}: stop it, or choose another --data",
                path=data,
                pid=pid,
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _use_reserve(data: Path, *, leave_bytes: int = 0) -> None:
    """Give the reserve back on a full disk, but for what is left for later. Raises OSError."""
    path, free = data / RESERVE, free_bytes(data)
    if free >= RESERVE_BYTES or not path.exists() or path.stat().st_size <= leave_bytes:
        return
    log.warning("%s is full (%d bytes free): serving goes on, imports wait for space", data, free)
    if leave_bytes:
        os.truncate(path, leave_bytes)
    else:
        path.unlink()


def _keep_reserve(data: Path) -> None:
    """Set the reserve aside where there is room for it."""
    path = data / RESERVE
    held = path.stat().st_size if path.exists() else 0
    if held == RESERVE_BYTES or free_bytes(data) < 2 * RESERVE_BYTES:
        return
    with suppress(OSError), path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def _check_format(data: Path) -> None:
    """Write the format's version, or refuse a newer one."""
    path = data / "format"
    with translated("cannot read", path):
        if not path.exists():
            write_durably(path, f"{FORMAT}\n".encode())
            return
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdigit():
        raise ConfigError(f"{path} does not hold a version: is {data} a data directory of Airside?")
    if int(text) > FORMAT:
        raise ConfigError(
            f"{data} has format {text}, this Airside knows up to {FORMAT}: install a newer Airside"
        )
