"""An archive's bytes: one open file, or several that are read as one. Blocking."""

import io
import os
from collections.abc import Sequence
from typing import BinaryIO

from airside.archive.stat_key import StatKey


class JoinedFile(io.RawIOBase):
    """Open files that are read as one. Thread-safe for `pread`; the files stay the caller's."""

    def __init__(self, files: Sequence[BinaryIO], key: StatKey) -> None:
        super().__init__()
        self._files = list(files)
        self._sizes = [os.fstat(file.fileno()).st_size for file in files]
        self.key = key
        self.size_bytes = sum(self._sizes)
        self._position = 0

    def pread(self, count: int, offset: int) -> bytes:
        """Returns `count` bytes at an offset; fewer only at the end. Raises OSError."""
        found = b""
        for file, size in zip(self._files, self._sizes, strict=True):
            while offset < size and len(found) < count:
                data = os.pread(file.fileno(), min(count - len(found), size - offset), offset)
                if not data:  # it is shorter than it was
                    return found
                found += data
                offset += len(data)
            offset = max(offset - size, 0)
            if len(found) == count:
                break
        return found

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        data = self.pread(len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


ArchiveFile = BinaryIO | JoinedFile


def read_at(file: ArchiveFile, count: int, offset: int) -> bytes:
    """Returns bytes at an offset, as `os.pread` does."""
    if isinstance(file, JoinedFile):
        return file.pread(count, offset)
    return os.pread(file.fileno(), count, offset)


def size_of(file: ArchiveFile) -> int:
    """Returns the size in bytes."""
    return file.size_bytes if isinstance(file, JoinedFile) else os.fstat(file.fileno()).st_size


def key_of(file: ArchiveFile) -> StatKey:
    """Returns the stat key of an open archive; of one in parts, as it was when it was opened."""
    return file.key if isinstance(file, JoinedFile) else StatKey.of(os.fstat(file.fileno()))
