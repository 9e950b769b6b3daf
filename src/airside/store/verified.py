"""Which files of blobs were hashed lately, with the right result. Thread-safe.

After a start nothing is verified: a flipped bit of an earlier time is then seen at the first read.
Only the rebuild of a lost catalog asks for the proofs of an earlier process (`store.proofs`).
A file is known by its device, inode, size and modification time: a written file does not count.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from airside.core.errors import StoppedError
from airside.core.listeners import Listeners
from airside.core.settings import MIB
from airside.oci.digest import Digest
from airside.store.proofs import Proofs
from airside.store.rehash import examine, file_key

_MOST = 16_384
"""Files that are remembered: about 6 MB. Beyond, the one verified longest ago is forgotten."""
DAY_SECONDS = 86_400.0
_SMALL_BYTES = 8 * MIB
"""A file up to this size is hashed also during a stop."""


class Suspects:
    """Blobs that were found wrong where they were needed, for who repairs them. Thread-safe."""

    def __init__(self) -> None:
        self.added = Listeners()
        self._found: set[Digest] = set()
        self._lock = threading.Lock()

    def add(self, digest: Digest) -> None:
        with self._lock:
            self._found.add(digest)
        self.added.notify()

    def take(self) -> set[Digest]:
        """Returns the suspects and forgets them."""
        with self._lock:
            found, self._found = self._found, set()
        return found


class VerifiedFiles:
    """The files verified within the last `seconds`."""

    def __init__(
        self,
        seconds: float = DAY_SECONDS,
        *,
        proofs: Proofs | None = None,
        most: int = _MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._proofs = proofs
        self._found: OrderedDict[Digest, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ends the hashing of large files in all threads: a stop must not wait for them."""
        self._stopped.set()

    def note(self, digest: Digest, key: str) -> None:
        """Notes that the file of this key (`rehash.file_key`) has the bytes of the digest."""
        with self._lock:
            self._found[digest] = (key, self._clock())
            self._found.move_to_end(digest)
            if len(self._found) > self._most:
                self._found.popitem(last=False)
        if self._proofs is not None:
            self._proofs.note(digest, key)

    def proved(self) -> dict[Digest, str]:
        """Returns the keys of the files that this or an earlier process verified lately."""
        return self._proofs.recent(self._seconds) if self._proofs is not None else {}

    def is_fresh(self, digest: Digest, key: str) -> bool:
        """Returns True if this very file was verified lately."""
        with self._lock:
            noted, at = self._found.get(digest, ("", 0.0))
            return bool(key) and noted == key and self._clock() - at < self._seconds

    def is_last(self, digest: Digest, key: str) -> bool:
        """Returns True if this very file is the blob's last one that was verified, at any time."""
        with self._lock:
            return bool(key) and self._found.get(digest, ("", 0.0))[0] == key

    def is_right(self, digest: Digest, path: Path) -> bool:
        """Returns True if the file has the bytes of the digest: hashes it unless it is fresh.

        A wrong file is read twice, the second time past the page cache. False also for an absent or
        unreadable one. Raises StoreError if the file system fails as a whole, StoppedError.
        """
        key = file_key(path)
        if not key:
            return False
        if self.is_fresh(digest, key):
            return True
        for keep_cached in (True, False):
            seen = examine(path, digest, None, self._each(), keep_cached=keep_cached)
            if seen.digest == digest:
                self.note(digest, seen.key)
                return True
        return False

    def _each(self) -> Callable[[int], None]:
        """Returns what is called for each chunk of a file: ends at a stop, unless it is small."""
        done = 0

        def each(count: int) -> None:
            nonlocal done
            done += count
            if done > _SMALL_BYTES and self._stopped.is_set():
                raise StoppedError("stopped while a blob was hashed")

        return each
