"""The stat key, by which two versions of an archive file are distinguished (ADR 0004)."""

import os
from dataclasses import dataclass
from typing import Self

from airside.core.errors import StoreCorruptError


@dataclass(frozen=True, slots=True)
class StatKey:
    """Inode, size and times of a file version. Times are compared for equality, never for order."""

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    def __str__(self) -> str:
        return f"{self.inode}:{self.size_bytes}:{self.mtime_ns}:{self.ctime_ns}"

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of `str(key)`. Raises StoreCorruptError, since the catalog stores it."""
        try:
            inode, size_bytes, mtime_ns, ctime_ns = map(int, text.split(":"))
        except ValueError as exc:
            raise StoreCorruptError(f"not a stat key: {text!r:.100}", found=text[:100]) from exc
        return cls(inode, size_bytes, mtime_ns, ctime_ns)
