"""The number of the last committed transaction, in a small file beside the catalog.

A write-ahead log that was cut or deleted loses its last transactions silently: SQLite reads it up
to the first frame that is wrong. The number in this file is then higher than the catalog's own. It
is written after each commit and never synced: it outlives the process, and that is enough.
"""

import os
from contextlib import suppress
from pathlib import Path

_NAME = "catalog.commits"


class CommitMark:
    """The file of one catalog. Failures are ignored: then a loss is not noticed by it."""

    def __init__(self, catalog: Path) -> None:
        self._descriptor: int | None = None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with suppress(OSError):
            self._descriptor = os.open(catalog.with_name(_NAME), flags, 0o600)

    def read(self) -> int:
        """Returns the number; 0 if there is none."""
        if self._descriptor is not None:
            with suppress(OSError, ValueError):
                return int(os.pread(self._descriptor, 32, 0).decode("ascii"))
        return 0

    def write(self, number: int) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.pwrite(self._descriptor, b"%020d\n" % number, 0)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
