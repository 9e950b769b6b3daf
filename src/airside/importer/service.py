"""Imports archives and lists, and makes room for them. Blocking; thread-safe.

Makes room when the disk is full, and retries an import when a garbage collection deletes a blob
that the import relied on. Left to others: one import (`airside.importer.importer`,
`airside.importer.list_importer`), and when an archive is imported (`airside.agent.import_queue`).
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from airside.archive.beneath import Beneath, Credentials, can_act
from airside.archive.beneath.rights import name_of
from airside.archive.directory import is_archive_directory, stat_key
from airside.archive.formats.image_list import is_list_name
from airside.archive.open_file import open_archive, translated_reading
from airside.archive.open_parts import first_part
from airside.archive.sources import Progress
from airside.archive.stat_key import StatKey
from airside.archive.stop import Stop
from airside.catalog.catalog import Catalog
from airside.core.bandwidth import Bandwidth
from airside.core.clock import Clock
from airside.core.errors import (
    AirsideError,
    ArchiveError,
    ArchiveUnreadableError,
    BlobCollectedError,
    StoppedError,
    StorageFullError,
    StoreError,
    UnavailableError,
)
from airside.core.settings import Settings
from airside.importer.checksum_recheck import ChecksumRecheck
from airside.importer.ignored_files import IgnoredFiles
from airside.importer.import_measure import measured
from airside.importer.importer import Importer, Job, Outcome, job_at
from airside.importer.list_importer import ListImporter
from airside.importer.list_puller import is_list_file
from airside.importer.watch.directories import WatchedDirectories
from airside.ports.measures import UNMEASURED, ImportMeter
from airside.store.data_directory import Reserve
from airside.store.gc import GarbageCollector

log = logging.getLogger("airside.node")

_TRIES = 3
_NO_RUNTIME = (
    "{} is a list of images, which a container runtime pulls, and no agent that runs here is "
    "connected to one with CRI: import archives of the images instead"
)


class ImportService:
    """Runs import jobs on one data directory."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        importer: Importer,
        lists: ListImporter,
        garbage: GarbageCollector,
        reserve: Reserve,
        clock: Clock,
        meter: ImportMeter = UNMEASURED,
    ) -> None:
        self._catalog, self._importer, self._lists = catalog, importer, lists
        self._garbage, self._reserve, self._clock = garbage, reserve, clock
        self._meter = meter
        self._bandwidth = Bandwidth(settings.import_bytes_per_second)
        self._directories = WatchedDirectories(settings.images)
        self._ignored = IgnoredFiles(catalog, clock)
        self.checksums = ChecksumRecheck(catalog, importer)

    def run(
        self, job: Job, *, stop: Stop, progress: Progress, forget_refusals: bool = False
    ) -> Outcome:
        """Import an archive, or pull the images of a list. Raises as the importers do.

        On a full disk, garbage is collected and the import is tried once more. `forget_refusals`:
        pull also the images that a registry refused before.
        """
        self._garbage.keep_room(self._clock.ages())
        with measured(job.path, self._meter, progress) as measure:
            try:
                return measure.ended(
                    self._run(
                        job, stop=stop, progress=measure.progress, forget_refusals=forget_refusals
                    )
                )
            except StorageFullError as exc:
                if not self.make_room(exc):
                    raise
                return measure.ended(
                    self._run(
                        job, stop=stop, progress=measure.progress, forget_refusals=forget_refusals
                    )
                )

    def _run(self, job: Job, *, stop: Stop, progress: Progress, forget_refusals: bool) -> Outcome:
        """Retry when a collection deletes a blob that was not written because it was stored."""
        for _ in range(_TRIES - 1):
            with suppress(BlobCollectedError):
                return self._run_once(
                    job, stop=stop, progress=progress, forget_refusals=forget_refusals
                )
        return self._run_once(job, stop=stop, progress=progress, forget_refusals=forget_refusals)

    def _run_once(
        self, job: Job, *, stop: Stop, progress: Progress, forget_refusals: bool
    ) -> Outcome:
        if job.for_checksums:
            checked = self.checksums.run(job, stop)
            if checked is not None:
                return checked
        progress = self._bandwidth.counted(progress, stop)
        ignored = self._ignored.take(job)
        if ignored is not None:
            return ignored
        if job.is_repeated or not is_list_name(job.path.name):
            return self._importer.run(job, stop=stop, progress=progress)
        if _is_list(job):
            return self._lists.run(
                job, stop=stop, progress=progress, forget_refusals=forget_refusals
            )
        self._catalog.source_states.set_kind(job.source_id, "archive")
        return self._importer.run(job, stop=stop, progress=progress)

    def import_file(
        self, path: Path, *, stop: Stop, progress: Progress, asker: Credentials | None = None
    ) -> Outcome:
        """Import one archive by hand: its images stay until the file is deleted. Pulls a list.

        With `asker`, the file is read with the rights of that user, unless it is in a watched
        directory. Raises ArchiveError, ArchiveUnreadableError, NotFoundError, ArchiveChangedError,
        UnavailableError, StoppedError, StoreError.
        """
        path = path.absolute()
        beneath = self._directories.beneath(path)
        if asker is not None and beneath.root is None:
            beneath = Beneath(None, "any", asker)
        path = first_part(path, beneath)
        key = self._check_as(path, beneath)
        files = [(str(path), str(key), key.size_bytes)]
        ids = self._catalog.source_states.settle(files, self._clock(), kind="import")
        job = Job(ids[str(path)], path, beneath=beneath)
        self._importer.attempts.forgive(job.source_id)
        try:
            return self.run(job, stop=stop, progress=progress, forget_refusals=True)
        except AirsideError as exc:  # only the person retries: no passing state may remain
            self._importer.failed(job, exc)
            raise

    def _check_as(self, path: Path, beneath: Beneath) -> StatKey:
        """Returns as `_check`. An error says whose rights hold."""
        asker = beneath.reader
        if asker is None:
            return self._check(path, beneath)
        if not can_act():
            raise ArchiveUnreadableError(
                f"{path} is in no watched directory, and this agent cannot read with the rights of "
                f"{name_of(asker.uid)}: move the file into a watched directory, or run the command "
                "as root or as the user of the agent",
                path=path,
            )
        try:
            return self._check(path, beneath)
        except ArchiveUnreadableError as exc:
            raise ArchiveUnreadableError(
                f"{path} cannot be read by {name_of(asker.uid)}, with whose rights the agent reads "
                "it: run the command as a user who may read it",
                path=path,
            ) from exc

    def _check(self, path: Path, beneath: Beneath) -> StatKey:
        """Returns the stat key of a file that can be imported. Raises as `import_file`."""
        if not is_utf8(path):
            raise ArchiveError(f"{str(path)!r}: the name is not UTF-8: rename the file")
        with translated_reading(path):
            key = stat_key(path, beneath)
        if not beneath.is_directory(path):
            with open_archive(path, beneath):
                pass
        elif not is_archive_directory(path, beneath):
            raise ArchiveError(
                f"{path} is a directory without an image layout (index.json, blobs): name the "
                "archives in it",
                path=path,
            )
        if is_list_file(path, beneath) and not self._lists.available():
            raise UnavailableError(_NO_RUNTIME.format(path), path=path)
        return key

    def read_now(self, sources: Sequence[tuple[int, Path]], stop: Stop) -> None:
        """Import archives (source id, path) again for a repair, and record each result.

        Raises StoppedError; other errors are recorded and logged.
        """
        for source_id, path in sources:
            job = job_at(self._directories, source_id, path)
            try:
                outcome = self.run(job, stop=stop, progress=lambda _done, _total: None)
                log.info("%s: read again: %s", path, outcome.state)
            except StoppedError:
                raise
            except AirsideError as exc:
                self._importer.failed(job, exc)
                log.warning("%s: %s", path, exc.message)

    def unread(self) -> list[tuple[int, Path]]:
        """The archives (source id, path) to import again because a blob of theirs is lost."""
        return [(source_id, Path(path)) for source_id, path in self._catalog.unread()]

    def make_room(self, error: StorageFullError) -> bool:
        """Release the reserve and collect more garbage than usual. Returns True if it helped.

        The caller must not hold the store's lock.
        """
        self._reserve.release_for_writing()
        short = int(error.context.get("expected", 0)) - int(error.context.get("found", 0))
        try:
            helped = self._garbage.make_room(self._clock.ages(), max(short, 0))
        except StoreError as exc:
            log.warning("no room could be made: %s", exc.message)
            return False
        self._importer.write_index()
        return helped


def _is_list(job: Job) -> bool:
    """Returns True for a list; the importer of archives reports what can't be opened."""
    try:
        return is_list_file(job.path, job.beneath)
    except ArchiveError:
        return False


def is_utf8(path: Path) -> bool:
    """Returns True if the name is UTF-8: the catalog, JSON and logs hold text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
