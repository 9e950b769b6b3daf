"""Proofs on disk that files of blobs were hashed with the right result. Blocking, thread-safe.

For the rebuild of a lost catalog, which would read the whole store otherwise (ADR 0052). A proof
names the file (device, inode, size, modification time), and counts only while it is recent and the
kernel has run since: after a power cut or a reboot everything is hashed again. Lines are appended
without a sync, each with its own checksum: a lost or damaged line costs one hashing.
"""

import logging
import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from airside.oci.digest import Digest
from airside.store.filesystem import PRIVATE_FILE

log = logging.getLogger("airside.store")

_FILES = ("verified.old", "verified")
_MOST_BYTES = 16 * 1024 * 1024
"""A file of this size becomes the older of two: each has about 100,000 proofs."""


def seconds_of_boot() -> float:
    """Returns the seconds since the boot, suspended time included: no clock of the host lies in it.

    Raises OSError.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Proofs:
    """The proofs of one data directory in this boot; `boot` empty: none is kept.

    A failure to write is logged once, and no more proofs are kept: they only save time.
    """

    def __init__(self, data: Path, boot: str, *, most_bytes: int = _MOST_BYTES) -> None:
        self._older, self._path = (data / name for name in _FILES)
        self._head = f"airside verified 1 {boot}\n".encode()
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._size_bytes = 0
        self._failed = not boot

    def note(self, digest: Digest, key: str) -> None:
        """Records that the file of this key (`rehash.file_key`) hashed to the digest now."""
        with self._lock:
            if self._failed or not key:
                return
            try:
                self._append(_line(f"{digest} {key} {int(seconds_of_boot())}"))
            except OSError as exc:
                self._failed = True
                log.warning(
                    "cannot write %s: %s; a rebuild of a lost catalog will hash every blob",
                    self._path,
                    exc.strerror,
                )

    def close(self) -> None:
        with self._lock:
            self._failed = True
            self._end()

    def recent(self, seconds: float) -> dict[Digest, str]:
        """Returns the key of the file that was hashed in the last `seconds`, for each digest."""
        now, found = seconds_of_boot(), dict[Digest, str]()
        for path in (self._older, self._path):
            for text in self._lines(path):
                with suppress(ValueError):
                    digest, key, at = text.split(" ")
                    algorithm, value = digest.split(":")
                    if 0 <= now - float(at) < seconds:
                        found[Digest(algorithm, value)] = key
        return found

    def _append(self, line: bytes) -> None:
        if self._descriptor is None:
            self._begin()
        elif self._size_bytes >= self._most_bytes:
            self._end()
            self._path.replace(self._older)
            self._begin()
        assert self._descriptor is not None
        self._size_bytes += os.write(self._descriptor, line)

    def _begin(self) -> None:
        """Opens the file, and empties it if it is of another boot."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, PRIVATE_FILE)
        self._size_bytes = os.fstat(self._descriptor).st_size
        if os.pread(self._descriptor, len(self._head), 0) != self._head:
            if self._size_bytes:
                self._older.unlink(missing_ok=True)
            os.ftruncate(self._descriptor, 0)
            self._size_bytes = os.write(self._descriptor, self._head)

    def _end(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lines(self, path: Path) -> Iterator[str]:
        """Yields the texts of the whole and undamaged lines of a file of this boot."""
        try:
            with path.open("rb") as file:
                if self._failed or file.readline() != self._head:
                    return
                for line in file:
                    text = line.rpartition(b" ")[0].decode("ascii", "replace")
                    if line == _line(text):
                        yield text
        except OSError:
            return


def _line(text: str) -> bytes:
    raw = text.encode("ascii", "replace")
    return b"%b %08x\n" % (raw, zlib.crc32(raw))
