"""One upload of an archive: its bytes on disk, and how many there are. Blocking."""

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from airside.core.settings import MIB
from airside.page.uploads.offers import Offer
from airside.page.uploads.records import Record
from airside.store.filesystem import start_writeback


class _Hasher(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(slots=True, eq=False)
class ArchiveUpload:
    """One upload. `offset`: the bytes that are stored."""

    record: Record
    path: Path
    offset: int = 0
    touched: float = 0.0
    """Monotonic seconds of the last byte."""
    is_finished: bool = False
    hasher: _Hasher = field(default_factory=hashlib.sha256, repr=False)
    hashed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def offer(self) -> Offer:
        return self.record.offer

    @property
    def to_come(self) -> int:
        return max(0, (self.offer.length or 0) - self.offset)

    def append(self, pieces: Sequence[bytes]) -> None:
        """Writes pieces after the bytes that are stored. Raises OSError."""
        descriptor, begun = self._open(), self.offset
        try:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    written = os.pwrite(descriptor, left, self.offset)
                    if self.offer.sha256 and self.hashed == self.offset:
                        self.hasher.update(left[:written])
                        self.hashed += written
                    self.offset, left = self.offset + written, left[written:]
            start_writeback(descriptor, begun, self.offset - begun)
        finally:
            os.close(descriptor)

    def sync(self) -> str:
        """Makes the bytes durable. Returns their sha256 if one was offered. Raises OSError."""
        descriptor = self._open()
        try:
            os.ftruncate(descriptor, self.offset)  # bytes of a write that was not reported
            found = self._sha256(descriptor) if self.offer.sha256 else ""
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return found

    def _sha256(self, descriptor: int) -> str:
        while self.hashed < self.offset:  # what was stored before the agent started
            piece = os.pread(descriptor, MIB, self.hashed)
            if not piece:
                raise OSError(errno.ESTALE, "the file became shorter", str(self.path))
            self.hasher.update(piece)
            self.hashed += len(piece)
        return self.hasher.hexdigest()

    def _open(self) -> int:
        """Opens the bytes, which must be those that were stored. Raises OSError."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size < self.offset:
            os.close(descriptor)
            raise OSError(errno.ESTALE, "the file was changed by somebody else", str(self.path))
        return descriptor
