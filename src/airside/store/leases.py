"""Leases on blobs that a client was told are here: garbage collection spares them.

A client asks for a blob by HEAD, learns that it is here, does not send it, and then pushes a
manifest that needs it. Between the two, nothing in the catalog holds the blob. What always holds:
either a collection sees the lease and spares the blob, or the client is told that the blob is
absent.

Thread-safe. Kept in memory only, since a restart ends every push.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from airside.oci.digest import Digest

_MOST = 100_000


class BlobLeases:
    """Digests leased within the last `seconds`. Beyond `most` leases, the oldest ends."""

    def __init__(
        self, seconds: float, *, most: int = _MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._at: OrderedDict[Digest, float] = OrderedDict()
        self._condemned: frozenset[Digest] = frozenset()
        self._lock = threading.Lock()

    def lease(self, digest: Digest) -> bool:
        """Leases the digest. Returns False if it is being deleted: answer that it is absent.

        Call it *before* the catalog is asked for the blob.
        """
        with self._lock:
            if digest in self._condemned:
                return False
            self._at[digest] = self._clock()
            self._at.move_to_end(digest)
            if len(self._at) > self._most:
                self._at.popitem(last=False)
            return True

    def active(self) -> frozenset[Digest]:
        """Returns the digests whose leases have not expired."""
        with self._lock:
            limit = self._clock() - self._seconds
            while self._at and next(iter(self._at.values())) < limit:
                self._at.popitem(last=False)
            return frozenset(self._at)

    def condemn(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Refuses leases on these digests until the next call.

        Returns those leased already, which stay.
        """
        with self._lock:
            asked = frozenset(digest for digest in digests if digest in self._at)
            self._condemned = frozenset(digests) - asked
        return asked
