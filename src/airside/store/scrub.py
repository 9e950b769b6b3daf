"""Scrub: hashes every blob of the store, quarantines and repairs the wrong ones. Blocking.

What always holds: a blob is marked `quarantined` in the catalog before its file leaves the store,
so that nobody serves it from elsewhere meanwhile. The next start finishes what was interrupted
between the two. Verified blobs are recorded in batches, so that a pass continues after a restart.
Imports, pulls and collections continue: only moving a file to quarantine excludes them.

Left to others: when to scrub (`airside.agent.scrub_scheduler`), and where good bytes are
(`airside.store.repair`).
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from airside.catalog.catalog import Catalog
from airside.catalog.verification import LAST_PASS
from airside.core.errors import StoppedError
from airside.core.failpoints import fault
from airside.core.logs import human_bytes
from airside.core.settings import GIB
from airside.oci.digest import Digest, digest_of
from airside.ports.measures import UNMEASURED, StoreMeter
from airside.ports.runtime_set import RuntimeSet
from airside.store.gc import unknown_blobs
from airside.store.local import LocalStore
from airside.store.lock import StoreLock
from airside.store.quarantine import Quarantine
from airside.store.rehash import examine, file_key
from airside.store.repair import ReadArchives, Repair, Stop, queue_again
from airside.store.scrub_results import (
    BlobFile,
    BlobFinding,
    Problem,
    Result,
    ScrubPass,
    judge,
    next_pass,
    parse_pass,
    reason_of,
    state_of,
)

log = logging.getLogger("airside.scrub")

Each = Callable[[int], None]
"""Called with the number of bytes of each chunk read. May wait; raises StoppedError."""

_AT_ONCE = 64
_RECORD_BYTES = GIB
"""Verified blobs are recorded after so many bytes, or after `_AT_ONCE` blobs."""
_SHOWN_IMAGES = 100
RECHECK_SECONDS = 60.0
"""After an unclean stop, blobs written within this time before the newest one are hashed again."""


@dataclass(slots=True)
class ScrubReport:
    """The result of a pass: counts, and a finding for each blob that is or was wrong."""

    found: ScrubPass
    items: list[BlobFinding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_right(self) -> bool:
        return all(item.is_fine for item in self.items)


class Scrub:
    """Verifies one store. Two passes at the same time do no harm.

    Raises StoreError, also if the file system is gone: then no blob is called wrong.
    """

    def __init__(
        self,
        store: LocalStore,
        catalog: Catalog,
        guard: StoreLock,
        quarantine: Quarantine,
        runtimes: RuntimeSet,
        clock: Callable[[], float],
        meter: StoreMeter = UNMEASURED,
    ) -> None:
        self._store, self._catalog, self._guard = store, catalog, guard
        self._quarantine, self._clock, self._meter = quarantine, clock, meter
        self.repair = Repair(store, catalog, guard, quarantine, runtimes, clock)

    # passes

    def due(self, period_seconds: float) -> ScrubPass | None:
        """Returns the pass to run now in the background, or None."""
        last, oldest = parse_pass(self._catalog.meta(LAST_PASS)), self._catalog.oldest_verified()
        return next_pass(last, oldest, self._clock(), period_seconds)

    def verify(
        self, *, read: ReadArchives | None, stop: Stop, progress: Callable[[int, int], None]
    ) -> ScrubReport:
        """Verifies everything now, and repairs what is wrong unless `read` is None.

        `read` imports archives again for a repair. `progress` is called with the bytes done and the
        bytes in all. Raises StoppedError.
        """
        started = ScrubPass(self._clock(), by="verify")
        done = 0
        total = self._catalog.unverified_bytes(started.started_at, self._clock())
        progress(0, total)

        def each(count: int) -> None:
            nonlocal done
            if stop():
                raise StoppedError("the verification was stopped")
            done += count
            progress(done, total)

        return self._run(started, each, stop, read)

    def background(
        self, found: ScrubPass, *, read: ReadArchives, each: Each, stop: Stop
    ) -> ScrubReport:
        """Runs a pass that is due, or the rest of it, and repairs what is wrong."""
        return self._run(found, each, stop, read)

    def _run(
        self, found: ScrubPass, each: Each, stop: Stop, read: ReadArchives | None
    ) -> ScrubReport:
        began = time.monotonic()
        self._store.check_working()
        self._catalog.verification.record([], found.started_at, found.to_text())
        self.finish_interrupted()
        self.repair.mend_all(everything=True)
        report = ScrubReport(found)
        self._settle(report, [self._known_bad(*bad) for bad in self._bad()], stop, read)
        for blobs in self._batches(found.started_at):
            self._batch(report, blobs, each, stop, read)
        report.items += self._orphans(delete=read is not None)
        report.found = replace(report.found, ended_at=self._clock())
        self._catalog.verification.record([], self._clock(), report.found.to_text())
        report.seconds = time.monotonic() - began
        log.info(
            "scrub done: %d blobs, %s verified; %d wrong, %d of them repaired",
            report.found.blobs,
            human_bytes(report.found.size_bytes),
            report.found.wrong,
            report.found.repaired,
        )
        return report

    def _batches(self, started_at: float) -> Iterator[list[tuple[Digest, int]]]:
        """Yields the blobs not verified since `started_at`, oldest first.

        Ends when none is left, or when a batch is the same as the one before.
        """
        before: list[tuple[Digest, int]] = []
        while True:
            now = max(self._clock(), started_at)
            batch = _within(self._catalog.unverified_blobs(started_at, now, _AT_ONCE))
            if not batch or batch == before:
                return
            yield batch
            before = batch

    def _batch(
        self,
        report: ScrubReport,
        blobs: Sequence[tuple[Digest, int]],
        each: Each,
        stop: Stop,
        read: ReadArchives | None,
    ) -> None:
        right: list[Digest] = []
        wrong: list[BlobFinding] = []
        count = done = 0
        try:
            for digest, size in blobs:
                items = self.look(digest, size, each, repair=read is not None)
                wrong += items
                count, done = count + 1, done + size
                if not items or items[0].problem == "wrong-record":
                    right.append(digest)
        finally:
            self._meter.verified(done)
            report.found = report.found.counted(count, done, ())
            now = max(self._clock(), report.found.started_at)
            self._catalog.verification.record(right, now, report.found.to_text())
        self._settle(report, wrong, stop, read)

    def _settle(
        self,
        report: ScrubReport,
        items: Sequence[BlobFinding],
        stop: Stop,
        read: ReadArchives | None,
    ) -> None:
        """Repairs the findings if `read` is given, and counts them in the report."""
        if read is not None:
            wrong = [item for item in items if not item.is_fine and item.problem != "wrong-record"]
            fixed = self.repair.run([replace(item, result="lost") for item in wrong], stop, read)
            items = [item for item in items if item not in wrong] + fixed
        report.items += items
        report.found = report.found.counted(0, 0, items)

    def retry(self, stop: Stop) -> None:
        """Repairs from a runtime that connected.

        It may have lost blobs, and damaged files of blobs that were repaired.
        """
        self.repair.mend_all(everything=True)
        bad = [self._known_bad(*bad) for bad in self._bad()]
        self.repair.run_from_runtimes([replace(item, result="lost") for item in bad], stop)

    # one blob

    def look(
        self, digest: Digest, size: int, each: Each, *, repair: bool = False
    ) -> list[BlobFinding]:
        """Examines a blob, and quarantines it if it is wrong.

        Returns a finding for the blob or for its record in the catalog; none if both are right.
        """
        seen = self._examine(digest, size, each)
        problem = judge(digest, size, seen)
        if not problem:
            return self._check_record(digest, size, repair=repair)
        self._store.check_working()
        if not self._quarantine_blob(digest, problem, seen):
            return []
        text = os.strerror(seen.error) if seen.error else ""
        return [self._item(digest, size, problem, reason_of(problem, seen, text), seen.digest)]

    def _examine(self, digest: Digest, size: int, each: Each) -> BlobFile:
        """Returns the state of the file; a wrong one is read twice, since memory fails too."""
        path = self._store.path(digest)
        seen = examine(path, digest, size, each)
        if judge(digest, size, seen):
            seen = examine(path, digest, size, each)
        if seen.digest == digest:
            self._store.verified.note(digest, seen.key)
        return seen

    def _quarantine_blob(self, digest: Digest, problem: Problem, seen: BlobFile) -> bool:
        """Marks the blob, then moves its file.

        Returns False if nobody needs the blob by now, or if another file has its name.
        """
        path = self._store.path(digest)
        with self._guard.exclusive():
            if not self._catalog.known_blobs(among=[digest]) or file_key(path) != seen.key:
                return False
            log.error("blob %s is wrong (%s): quarantining it", digest, problem)
            self._catalog.verification.mark_blob(digest, state_of(problem), self._clock())
            fault("scrub.after_mark")
            if problem != "missing":
                self._quarantine.take(path, digest, unreadable=problem == "unreadable")
        fault("scrub.after_quarantine")
        return True

    def _check_record(self, digest: Digest, size: int, *, repair: bool) -> list[BlobFinding]:
        """Checks the catalog's bytes of a document, which the registry serves.

        Restores them from the store if `repair`. Returns a finding if they are or were wrong.
        """
        raw = self._catalog.document(digest)
        found = digest_of(raw, digest.algorithm) if raw is not None else digest
        if found == digest:
            return []
        problem: Problem = "wrong-record"
        log.error("the catalog's copy of document %s is wrong", digest)
        item = self._item(digest, size, problem, reason_of(problem, BlobFile()), found)
        if not repair:
            return [item]
        with self._store.open(digest) as file:
            good = file.read(size + 1)
        if digest_of(good, digest.algorithm) != digest:
            return [item]
        self._catalog.verification.restore_document(digest, good, self._clock())
        return [item.repaired("store", "")]

    def _item(
        self, digest: Digest, size: int, problem: Problem, reason: str, found: Digest | None
    ) -> BlobFinding:
        images, archives = self._catalog.lookup.users(str(digest))
        results: dict[str, Result] = {"missing": "missing", "wrong-record": "wrong"}
        return BlobFinding(
            digest,
            size,
            problem,
            results.get(problem, "quarantined"),
            reason,
            str(found) if found is not None else "",
            tuple(images[:_SHOWN_IMAGES]),
            tuple(archives[:_SHOWN_IMAGES]),
        )

    # blobs found wrong earlier

    def _bad(self) -> Iterator[tuple[Digest, int, str]]:
        for bad in self._catalog.bad_blobs():
            yield bad.digest, bad.size_bytes, bad.state

    def _known_bad(self, digest: Digest, size: int, state: str) -> BlobFinding:
        problem: Problem = "missing" if state == "lost" else "wrong-bytes"
        text = "it was lost before" if state == "lost" else "it was quarantined before"
        return self._item(digest, size, problem, text, None)

    def finish_interrupted(self) -> None:
        """Examines the marked blobs that have a file: quarantines each, or records it as repaired.

        The process was killed between the mark and the move, or between a commit and its record; or
        the file system was gone when a blob was called lost.
        """
        for digest, size, _ in self._bad():
            if self._store.stat(digest) is None:
                continue
            seen = self._examine(digest, size, lambda _count: None)
            problem = judge(digest, size, seen)
            if problem:
                self._quarantine_blob(digest, problem, seen)
            else:
                self._catalog.verification.record_repair(digest, self._clock(), "store", "")

    def check_recent(self) -> None:
        """Examines the newest blobs after an unclean stop; queues the archives of wrong ones."""
        recent = self._recent()
        if recent:
            size = human_bytes(sum(recent.values()))
            log.info("the last stop was not clean: hashing the newest blobs again, %s", size)
        wrong = [
            item.digest
            for digest, size in recent.items()
            for item in self.look(digest, size, lambda _count: None)
        ]
        queue_again(self._catalog, wrong, self._clock())

    def _recent(self) -> dict[Digest, int]:
        """Returns the held blobs written at most RECHECK_SECONDS before the newest of them."""
        held = self._catalog.blobs()
        written = {digest: self._store.written_at(digest) for digest in held}
        newest = max((at for at in written.values() if at is not None), default=0.0)
        return {
            digest: held[digest]
            for digest, at in written.items()
            if at is not None and at >= newest - RECHECK_SECONDS
        }

    # orphans

    def _orphans(self, *, delete: bool) -> Iterable[BlobFinding]:
        """Yields the blobs that the catalog does not know, without those being committed."""
        for digest in unknown_blobs(self._store, self._catalog):
            with self._guard.exclusive():
                size = self._store.stat(digest)
                if size is None or self._catalog.known_blobs(among=[digest]):
                    continue
                if delete:
                    self._store.delete(digest)
            result: Result = "removed" if delete else "orphan"
            yield BlobFinding(digest, size, "orphan", result, reason_of("orphan", BlobFile()))


def _within(blobs: Sequence[tuple[Digest, int]]) -> list[tuple[Digest, int]]:
    """Returns the first blobs, as many as are recorded together."""
    taken: list[tuple[Digest, int]] = []
    total = 0
    for digest, size in blobs:
        taken.append((digest, size))
        total += size
        if total >= _RECORD_BYTES:
            break
    return taken
