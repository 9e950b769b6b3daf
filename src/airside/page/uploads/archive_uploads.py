"""Unfinished uploads of archives: begun, appended to, finished, cancelled, swept. Blocking.

Always holds:

- Bytes are written under a hidden name in the watched directory, and get the archive's name by a
  rename within it, when all of them are there and on disk (ADR 0002): nobody sees a part of them.
- Before an upload begins, its length fits within the limit and the free space, with what the other
  uploads still have to come and what the import needs in the store (ADR 0029). Each piece asks for
  its space too.
- A file that exists is replaced only if the client said so.
- An upload that nobody writes to for `archive_upload_seconds` is deleted with its bytes.

Thread-safe, but one upload is written by one thread at a time: `http` sees to it.
"""

import logging
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from airside.core.disk_space import DiskSpace
from airside.core.errors import (
    ChecksumMismatchError,
    ConflictError,
    DeniedError,
    RequestInvalidError,
    StorageFullError,
    TooLargeError,
    TooManyError,
    UploadRangeError,
    UploadUnknownError,
)
from airside.core.settings import Settings
from airside.page.uploads.archive_upload import ArchiveUpload
from airside.page.uploads.drop_directory import DropDirectory, drop_directory
from airside.page.uploads.offers import Offer, parse_name
from airside.page.uploads.records import (
    Record,
    UploadRecords,
    is_partial_name,
    partial_name,
)
from airside.page.uploads.rename import rename_new
from airside.store.filesystem import sync_directory, translated

_LOG = logging.getLogger("airside.uploads")
_FINISHED = 256
"""Finished uploads that are remembered: a client whose last answer was lost asks for its offset."""


class ArchiveUploads:
    """All uploads of one agent."""

    def __init__(
        self,
        settings: Settings,
        space: DiskSpace,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall`: the clock of file times."""
        self._limits, self._seconds = settings.limits, settings.archive_upload_seconds
        self._data, self._space = settings.data, space
        self._directory: DropDirectory = drop_directory(settings)
        self._records = UploadRecords(settings.data)
        self._clock, self._wall = clock, wall
        self._lock = threading.Lock()
        self._open: dict[str, ArchiveUpload] = {}
        self._finished: OrderedDict[str, ArchiveUpload] = OrderedDict()

    @property
    def expires_after_seconds(self) -> float:
        return self._seconds

    @property
    def most_bytes(self) -> int:
        return self._limits.archive_upload_bytes

    def refusal(self) -> str:
        """Returns why nothing can be uploaded now, in words; empty if it can."""
        return self._directory.refusal()

    def unfinished(self) -> list[ArchiveUpload]:
        with self._lock:
            return sorted(self._open.values(), key=lambda each: each.id)

    # beginning

    def begin(
        self, offer: Offer, owner: str = "", about_bytes: int = 0, *, resumable: bool = True
    ) -> ArchiveUpload:
        """Begins an upload. `about_bytes`: its length if the offer has none.

        `resumable`: it outlasts the agent; else its bytes are deleted when the next one starts.

        Raises DeniedError (no directory to write to), ConflictError (the name is taken),
        TooLargeError, TooManyError, StorageFullError.
        """
        directory, length = self._writable(), offer.length or about_bytes
        self._check_size(length)
        self._check_name(directory / offer.name, offer)
        upload_id = secrets.token_hex(16)
        record = Record(upload_id, offer, owner, resumable=resumable)
        upload = ArchiveUpload(record, directory / partial_name(upload_id), touched=self._clock())
        with self._lock:
            if len(self._open) >= self._limits.archive_uploads:
                raise TooManyError(
                    f"{len(self._open)} uploads are unfinished already (setting "
                    "limits.archive_uploads): finish or cancel one"
                )
            self._check_room(directory, length)
            self._open[upload_id] = upload
        try:
            with translated("cannot begin an upload in", directory):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(upload.path, flags, 0o666))
                self._records.write(record)
        except BaseException:
            self.cancel(upload)
            raise
        return upload

    def _writable(self) -> Path:
        reason, path = self._directory.refusal(), self._directory.path
        if reason or path is None:
            raise DeniedError(f"nothing can be uploaded: {reason}")
        return path

    def _check_size(self, length: int) -> None:
        if length > self._limits.archive_upload_bytes:
            raise TooLargeError(
                f"the archive has {length} bytes, at most {self._limits.archive_upload_bytes} are "
                "allowed (setting limits.archive_upload_bytes)"
            )

    @staticmethod
    def _check_name(target: Path, offer: Offer) -> None:
        if target.is_dir() and not target.is_symlink():
            raise ConflictError(f"{offer.name!r} is a directory: rename the file")
        if not offer.replace and os.path.lexists(target):
            raise ConflictError(
                f"there is a file {offer.name!r} already: rename yours, or choose to replace it"
            )

    def _check_room(self, directory: Path, length: int) -> None:
        """Checks the space for the file and for its import, and what other uploads will write."""
        coming = length + sum(each.to_come for each in self._open.values())
        with translated("cannot tell the free space of", directory):
            is_one = directory.stat().st_dev == self._data.stat().st_dev
        try:
            self._space.check(directory, coming + (length if is_one else 0))
            if not is_one:
                self._space.check(self._data, length)
        except StorageFullError as exc:
            raise StorageFullError(
                f"no room for an archive of {length} bytes, whose import stores about as many: "
                f"{exc.message}",
                **exc.context,
            ) from exc

    # writing

    def find(self, upload_id: str, owner: str = "") -> ArchiveUpload:
        """Returns an upload of this owner, a finished one too. Raises UploadUnknownError."""
        with self._lock:
            found = self._open.get(upload_id) or self._finished.get(upload_id)
        if found is None or found.record.owner not in {"", owner}:
            raise UploadUnknownError("no such upload: it expired or was cancelled; begin again")
        return found

    def expect(self, upload: ArchiveUpload, offset: int, count: int) -> None:
        """Checks that a client may append `count` bytes (0: as many as it likes) at an offset.

        Raises UploadRangeError, RequestInvalidError, StorageFullError.
        """
        if offset != upload.offset:
            raise UploadRangeError(
                f"the bytes begin at {offset}, the upload ends at {upload.offset}",
                found=upload.offset,
            )
        length = upload.offer.length
        if length is not None and offset + count > length:
            raise RequestInvalidError(
                f"{count} bytes at {offset} are more than the {length} that were announced"
            )
        self._space.check(upload.path.parent, count)

    def write(self, upload: ArchiveUpload, pieces: Sequence[bytes]) -> None:
        """Appends pieces. Raises TooLargeError, RequestInvalidError, StoreError."""
        count, offer = sum(map(len, pieces)), upload.offer
        self._check_size(upload.offset + count)
        if offer.length is not None and upload.offset + count > offer.length:
            raise RequestInvalidError(f"more bytes came than the {offer.length} announced ones")
        with (
            upload.lock,
            self._space.writing(upload.path.parent, count),
            translated("cannot write the upload", upload.path),
        ):
            upload.append(pieces)
        upload.touched = self._clock()

    # ending

    def finish(self, upload: ArchiveUpload) -> Path:
        """Makes a whole upload durable and gives it its name. Returns its path.

        Raises RequestInvalidError while bytes are missing; ChecksumMismatchError, after which it
        is cancelled; ConflictError if the name is taken by now; StoreError.
        """
        target = upload.path.with_name(upload.offer.name)
        with upload.lock:
            if upload.is_finished:
                return target
            self._store(upload, target)
        self._records.remove(upload.id)
        with self._lock:
            upload.is_finished = True
            self._open.pop(upload.id, None)
            self._finished[upload.id] = upload
            while len(self._finished) > _FINISHED:
                self._finished.popitem(last=False)
        _LOG.info("uploaded %r: %d bytes; it is imported next", upload.offer.name, upload.offset)
        return target

    def _store(self, upload: ArchiveUpload, target: Path) -> None:
        offer = upload.offer
        if offer.length is not None and upload.offset != offer.length:
            raise RequestInvalidError(f"{upload.offset} of {offer.length} bytes were uploaded")
        with translated("cannot store the upload", upload.path):
            found = upload.sync()
            if offer.sha256 and found != offer.sha256:
                self.cancel(upload)
                raise ChecksumMismatchError(
                    f"the uploaded file has the sha256 {found}, expected {offer.sha256}: it is "
                    "deleted, upload it again",
                    expected=offer.sha256,
                    found=found,
                )
            self._check_name(target, offer)
            if offer.replace:
                upload.path.replace(target)
            else:
                rename_new(upload.path, target)
            sync_directory(target.parent)

    def cancel(self, upload: ArchiveUpload) -> None:
        """Deletes an unfinished upload with its bytes."""
        with self._lock:
            self._open.pop(upload.id, None)
        if not upload.is_finished:
            with suppress(OSError):
                upload.path.unlink(missing_ok=True)
        self._records.remove(upload.id)

    # across restarts

    def load(self) -> None:
        """Finds the unfinished uploads of an earlier process. Once."""
        directory = self._directory.path
        for record in self._records.load():
            if directory is None or not _is_sound(record.offer):
                self._records.remove(record.id)
                continue
            upload = ArchiveUpload(record, directory / partial_name(record.id))
            if not record.resumable:
                self.cancel(upload)
                continue
            try:
                found = upload.path.lstat()
            except OSError:
                self._records.remove(record.id)
                continue
            age = max(0.0, self._wall() - found.st_mtime)
            upload.offset, upload.touched = found.st_size, self._clock() - age
            if found.st_size > (record.offer.length or 0) or not stat.S_ISREG(found.st_mode):
                self.cancel(upload)
                continue
            with self._lock:
                self._open[record.id] = upload

    def sweep(self) -> None:
        """Deletes uploads that nobody writes to, and bytes that no upload of ours has."""
        now = self._clock()
        for upload in self.unfinished():
            if now - upload.touched > self._seconds:
                _LOG.warning(
                    "the upload of %r is deleted: no byte came for %g s (archive_upload_seconds), "
                    "%d bytes had come",
                    upload.offer.name,
                    self._seconds,
                    upload.offset,
                )
                self.cancel(upload)
        if self._directory.path is not None:
            with suppress(OSError):
                self._sweep_bytes(self._directory.path)

    def _sweep_bytes(self, directory: Path) -> None:
        """Deletes the bytes of ended agents. Another agent's upload is younger, or written to."""
        known = {upload.path.name for upload in self.unfinished()}
        with os.scandir(directory) as entries:
            for entry in entries:
                if not is_partial_name(entry.name) or entry.name in known:
                    continue
                found = entry.stat(follow_symlinks=False)
                is_ours = found.st_uid == os.geteuid()
                if is_ours and self._wall() - found.st_mtime > self._seconds:
                    with suppress(OSError):
                        Path(entry.path).unlink()


def _is_sound(offer: Offer) -> bool:
    try:
        parse_name(offer.name)
    except RequestInvalidError:
        return False
    return True
