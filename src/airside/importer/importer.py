"""Imports one archive from its file into the store and the catalog.

The order: every byte is read and verified, blobs are durable in the store, one catalog transaction,
then `index.json`. Nothing of an archive is visible before its transaction; a failed import leaves
the earlier state. Blocking; one call is one job in one thread.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from airside.archive.beneath import ANYWHERE, Beneath
from airside.archive.checked_reading import read_checked
from airside.archive.directory import stat_key
from airside.archive.reader import Reading, read_archive
from airside.archive.sources import Progress, Reader
from airside.archive.stop import Stop
from airside.catalog.catalog import Catalog
from airside.catalog.imports import plan_digest
from airside.catalog.model import NOTHING_READ, Import, TagMove
from airside.core.errors import (
    AirsideError,
    ArchiveChangedError,
    ArchiveTruncatedError,
    ArchiveUnreadableError,
    BlobCollectedError,
    InputError,
    LinkRefusedError,
    StoppedError,
    StoreError,
)
from airside.core.failpoints import fault
from airside.core.problem import Problem, first_code
from airside.core.timeline import stage
from airside.importer import claimed_names
from airside.importer.attempts import AttemptGuard, DeadlyArchiveError
from airside.importer.watch.directories import WatchedDirectories, beneath
from airside.oci.digest import Digest
from airside.oci.model import Descriptor, Document, Index
from airside.oci.reference import Repository, parse_repository
from airside.store.data_directory import boot_id
from airside.store.index_json import IndexJsonWriter
from airside.store.local import LocalStore
from airside.store.lock import StoreLock

log = logging.getLogger("airside.import")

_MOST_NOTES = 100


@dataclass(frozen=True, slots=True)
class Job:
    """One archive to import: its catalog source and the settings of its directory.

    `stat_key`: the stat key with which the watcher reported the file; empty without a watcher.
    `beneath`: where the path may lead. `is_repeated`: an import by hand that is read again without
    the user who asked for it, so nothing but the same file may be read. `for_checksums`: only a
    list of checksums came or changed, so an unchanged archive is compared and not imported.
    """

    source_id: int
    path: Path
    strict: bool = False
    repository: Repository | None = None
    on_removal: str = "unpin"
    platforms: tuple[str, ...] = ("all",)
    copy: bool = False
    stat_key: str = ""
    beneath: Beneath = ANYWHERE
    is_repeated: bool = False
    for_checksums: bool = False
    priority: int = 0
    """That of its directory: the highest is imported first."""


def job_at(places: WatchedDirectories, source_id: int, path: Path) -> Job:
    """Returns the job for an archive, with the settings of its watched directory, if any."""
    directory = places.owner(path)
    if directory is None:
        return Job(source_id, path, is_repeated=True)
    return Job(
        source_id,
        path,
        strict=directory.strict,
        repository=parse_repository(directory.repository) if directory.repository else None,
        on_removal=directory.on_removal,
        platforms=directory.platforms,
        copy=directory.copy,
        priority=directory.priority,
        beneath=beneath(directory),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job. `state` as in `airside archives`.

    `named`: the files that a list of checksums is about. For a job to retry, `stat_key` is the
    file's before it was read, and `after_seconds` the least delay.
    """

    path: Path
    state: str
    images: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    moves: tuple[TagMove, ...] = ()
    new_blobs: int = 0
    seconds: float = 0.0
    reason: str = ""
    retry: bool = False
    stat_key: str = ""
    after_seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    """What this node does with the images, where that is unusual."""
    named: tuple[Path, ...] = ()
    code: str = ""
    """That of the error, or of the first problem that has one."""


class Importer:
    """Imports archives; thread-safe, several jobs run at once."""

    def __init__(
        self,
        reader: Reader,
        store: LocalStore,
        catalog: Catalog,
        index: IndexJsonWriter,
        guard: StoreLock,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reader, self._store, self._catalog = reader, store, catalog
        self._index, self._guard, self._clock = index, guard, clock
        self.attempts = AttemptGuard(catalog.attempts, boot_id)

    def run(self, job: Job, *, stop: Stop, progress: Progress) -> Outcome:
        """Import one archive and record the result.

        A bad archive is a result, not an error. Raises StoppedError, StoreError, and
        ArchiveChangedError if the file changed while it was read (nothing was stored).
        """
        started = time.monotonic()
        key = _stat_key(job)
        if job.is_repeated and key:
            self._check_same(job, key)
        try:
            with self.attempts.attempt(job.source_id, key, stop):
                return self._read(job, stop, progress, started)
        except ArchiveChangedError:
            raise
        except InputError as exc:
            is_deadly = isinstance(exc, DeadlyArchiveError)
            if job.is_repeated and not is_deadly:  # the reason might show what another file has
                raise _not_the_same(job) from exc
            if isinstance(exc, ArchiveTruncatedError):
                return self._pass(job, "incomplete", exc, key)
            if _stat_key(job) != key:
                raise ArchiveChangedError(f"{job.path} changed while it was read") from exc
            return self.reject(job, key, exc, started)

    def _read(self, job: Job, stop: Stop, progress: Progress, started: float) -> Outcome:
        self._catalog.source_states.set_state(job.source_id, "importing", self._clock())
        read = partial(
            read_archive,
            self._reader,
            job.path,
            strict=job.strict,
            stop=stop,
            progress=progress,
            platforms=job.platforms,
            copy=job.copy,
            beneath=job.beneath,
        )
        moving = self._reader.settings.incomplete_seconds
        with read_checked(read, job.path, job.beneath, stop, moving) as reading:
            self._check_unchanged(reading)
            if job.is_repeated:
                self._check_same(job, str(reading.key))
            return self._take(job, reading, started, stop)

    def failed(self, job: Job, error: AirsideError) -> Outcome:
        """Record that a job failed (`failed`, `unreadable`). Returns an outcome to retry."""
        state = "unreadable" if error.code == "archive_unreadable" else "failed"
        return self._pass(job, state, error)

    def _pass(self, job: Job, state: str, error: AirsideError, key: str = "") -> Outcome:
        self._catalog.source_states.set_state(
            job.source_id, state, self._clock(), reason=error.message
        )
        return Outcome(
            job.path, state, reason=error.message, retry=True, stat_key=key, code=error.code
        )

    def _check_same(self, job: Job, key: str) -> None:
        rows = self._catalog.sources(path=str(job.path))
        if key not in {row.stat_key for row in rows if row.id == job.source_id}:
            raise _not_the_same(job)

    def _check_unchanged(self, reading: Reading) -> None:
        if not reading.copied and _stat_key(reading) != str(reading.key):
            raise ArchiveChangedError(
                f"{reading.path} changed while it was read: it is read again when it is quiet",
                path=reading.path,
            )

    def _take(self, job: Job, reading: Reading, started: float, stop: Stop) -> Outcome:
        claims = tuple(claimed_names.claims(reading, job.repository))
        judgement = reading.judgement
        problems = judgement.problems
        state = _state(reading)
        if stop():
            raise StoppedError("the import was stopped")
        fault("import.before_commit")
        with self._guard.shared():
            blobs = _needed(judgement.documents, reading.plan.blobs)
            new_blobs = self._commit(reading, blobs)
            fault("import.after_commit")
            result = Import(
                source_id=job.source_id,
                state=state,
                reason=_reason(reading),
                stat_key=str(reading.key),
                plan_digest=plan_digest(claims),
                format=reading.plan.format,
                compression=reading.compression,
                seconds=time.monotonic() - started,
                claims=claims,
                documents=judgement.documents,
                platforms=reading.plan.platforms,
                blobs=self._held(blobs),
                problems=problems,
                notes=tuple(dict.fromkeys(reading.notes))[:_MOST_NOTES],
                on_removal=job.on_removal,
                already_held=claimed_names.absent_documents(reading),
                withheld=claimed_names.withheld(reading),
                keeps_claims=state == "rejected",
            )
            size = sum(len(document.raw) for document in judgement.documents)
            with self._store.recording(size), stage("record"):
                moves = self._catalog.imports.record(result, self._clock())
        if judgement.images:
            reading.imported()
        self.write_index()
        fault("import.after_index")
        return Outcome(
            job.path,
            state,
            images=tuple(claim.reference for claim in claims),
            problems=problems,
            moves=tuple(moves),
            new_blobs=new_blobs,
            seconds=result.seconds,
            reason=result.reason,
            remarks=reading.remarks,
            code=first_code(problems),
        )

    def _commit(self, reading: Reading, blobs: dict[Digest, Descriptor]) -> int:
        """Make the needed blobs durable and visible in the store. Returns how many were new."""
        members = reading.plan.blobs
        ingests = list(reading.ingest.ingests_of(members[d] for d in blobs if d in members))
        ingested = {ingest.digest for ingest in ingests}
        small = {document.digest: document.raw for document in reading.judgement.documents}
        small |= {d: raw for d, raw in reading.plan.made.items() if d in blobs}
        ingests += [
            self._store.put(raw, digest.algorithm)
            for digest, raw in small.items()
            if digest not in ingested and not self._store.is_right(digest)
        ]
        count = self._store.commit(ingests)
        lost = self._store.missing(d for d in blobs.values() if d.is_distributable)
        if lost:
            raise BlobCollectedError(
                f"blob {lost[0].digest} was deleted while {reading.path} was imported: "
                "it is read again",
                blob=lost[0].digest,
            )
        return count

    def _held(self, blobs: dict[Digest, Descriptor]) -> dict[Digest, int]:
        sizes = {digest: self._store.stat(digest) for digest in blobs}
        return {digest: size for digest, size in sizes.items() if size is not None}

    def reject(self, job: Job, key: str, error: InputError, started: float) -> Outcome:
        """Record a rejected archive; its earlier images stay."""
        blob = error.context.get("blob") or error.context.get("member", "")
        problem = Problem(error.message, error.context.get("image", ""), blob, error.code)
        seconds = time.monotonic() - started
        result = replace(
            NOTHING_READ,
            source_id=job.source_id,
            state="rejected",
            reason=error.message,
            stat_key=key,
            seconds=seconds,
            problems=(problem,),
        )
        self._catalog.imports.record(result, self._clock())
        return Outcome(
            job.path,
            "rejected",
            problems=(problem,),
            seconds=seconds,
            reason=error.message,
            code=error.code,
        )

    def write_index(self) -> None:
        """Update `index.json`. A failure is logged only: the catalog is the truth."""
        try:
            with stage("index"):
                self._index.write()
        except StoreError as exc:
            log.warning("index.json could not be written: %s; retrying after the next change", exc)


def _not_the_same(job: Job) -> ArchiveUnreadableError:
    return ArchiveUnreadableError(
        f"{job.path} is not the archive any more that was imported by hand: import it again",
        path=job.path,
    )


def _stat_key(archive: Job | Reading) -> str:
    """Returns the archive's current stat key, or "" if the file is absent."""
    try:
        return str(stat_key(archive.path, archive.beneath))
    except (OSError, LinkRefusedError):
        return ""


def _state(reading: Reading) -> str:
    """Returns the state. An archive without an image for the wanted platforms is imported."""
    problems = reading.judgement.problems
    if not reading.judgement.images and (problems or not reading.plan.unwanted):
        return "rejected"
    return "partial" if problems else "imported"


def _reason(reading: Reading) -> str:
    """Returns the first problem, or the reason why no image was imported."""
    if reading.judgement.problems:
        return reading.judgement.problems[0].reason
    return "" if reading.judgement.images else next(iter(reading.plan.unwanted), "")


def _needed(
    documents: Iterable[Document], members: Mapping[Digest, str]
) -> dict[Digest, Descriptor]:
    """Returns every blob of the imported documents, and the documents themselves.

    Of an index's entries that are no documents, only those in the archive.
    """
    needed: dict[Digest, Descriptor] = {}
    for document in documents:
        own = Descriptor(document.media_type, document.digest, document.size_bytes)
        needed[document.digest] = own
        is_index = isinstance(document.content, Index)
        for child in document.children:
            if not is_index or (not child.is_document and child.digest in members):
                needed.setdefault(child.digest, child)
    return needed
