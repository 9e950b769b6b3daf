"""Taking an archive in: its bytes are copied first, then read from the copy. Blocking.

For sticks and slow mounts (`copy = true` of a watched directory): the file is needed for as long as
the copy takes, not until all its images are verified and durable. The copy is no blob and is never
made durable; it goes when it was read, or with the next start.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

from airside.archive.sources import ArchiveStore, Progress
from airside.archive.stat_key import StatKey
from airside.archive.stop import Stop
from airside.core.errors import ArchiveChangedError, StoppedError
from airside.core.settings import CHUNK_BYTES
from airside.ports.content import Ingest


def stage(file: BinaryIO, store: ArchiveStore, stop: Stop, progress: Progress) -> Ingest:
    """Copy an open file, as it is at one time, into the store's own place for what it receives.

    Discard the copy in the end. Raises ArchiveChangedError where the file changes meanwhile,
    StoppedError, StorageFullError, StoreError, and OSError where it can't be read.
    """
    key = StatKey.of(os.fstat(file.fileno()))
    store.check_space(key.size_bytes)
    copy = store.ingest()
    try:
        done = _copy(file, copy, stop, lambda done: progress(done, 2 * key.size_bytes))
        copy.finish()
        _check(file, key, done)
    except BaseException:
        copy.discard()
        raise
    return copy


def _copy(file: BinaryIO, copy: Ingest, stop: Stop, progress: Callable[[int], None]) -> int:
    done = 0
    while chunk := file.read(CHUNK_BYTES):
        if stop():
            raise StoppedError("the import was stopped")
        copy.write(chunk)
        done += len(chunk)
        progress(done)
    return done


def _check(file: BinaryIO, key: StatKey, done: int) -> None:
    if done != key.size_bytes or StatKey.of(os.fstat(file.fileno())) != key:
        raise ArchiveChangedError("the archive changed while it was copied")
