"""Stages an archive: copies its file into the data directory, to be read from there. Blocking.

For sticks and slow mounts (`copy = true` of a watched directory): the file is needed only while it
is copied, not until all its images are verified and durable. The copy is no blob and is never made
durable. It is deleted once it was read, else at the next start of the agent.
"""

from collections.abc import Callable

from airside.archive.sources import ArchiveStore, Progress
from airside.archive.stat_key import StatKey
from airside.archive.stop import Stop
from airside.archive.tar.archive_file import ArchiveFile, key_of
from airside.core.errors import ArchiveChangedError, StoppedError
from airside.core.settings import CHUNK_BYTES
from airside.ports.content import Ingest


def stage(file: ArchiveFile, store: ArchiveStore, stop: Stop, progress: Progress) -> Ingest:
    """Copy an open file into an ingest of the store; `progress` gets half of the total.

    The caller discards the copy. Raises ArchiveChangedError if the file changes during the copy,
    StoppedError, StorageFullError, StoreError, and OSError if the file cannot be read.
    """
    key = key_of(file)
    store.check_space(key.size_bytes)
    copy = store.ingest()
    try:
        done = _copy(file, copy, stop, lambda done: progress(done, 2 * key.size_bytes))
        copy.finish()
        _check_unchanged(file, key, done)
    except BaseException:
        copy.discard()
        raise
    return copy


def _copy(file: ArchiveFile, copy: Ingest, stop: Stop, progress: Callable[[int], None]) -> int:
    done = 0
    while chunk := file.read(CHUNK_BYTES):
        if stop():
            raise StoppedError("the import was stopped")
        copy.write(chunk)
        done += len(chunk)
        progress(done)
    return done


def _check_unchanged(file: ArchiveFile, key: StatKey, done: int) -> None:
    if done != key.size_bytes or key_of(file) != key:
        raise ArchiveChangedError(
            f"the archive changed while it was copied: {done} of {key.size_bytes} bytes were read"
        )
