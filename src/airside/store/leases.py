"""Which digests clients were lately told are here: a collection leaves them.

A client asks for a blob by HEAD, is told that it is here, does not send it, and then pushes a
manifest that needs it. Between the two nothing in the catalog tells. What always holds: either a
collection sees that a digest was asked about and leaves it, or the client is told that it is gone.
Thread-safe; kept in memory, since a restart ends every push.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from airside.oci.digest import Digest

_MOST = 100_000


class BlobLeases:
    """Digests that were asked about within `seconds`; of more than `most` the oldest are let go."""

    def __init__(
        self, seconds: float, *, most: int = _MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._at: OrderedDict[Digest, float] = OrderedDict()
        self._condemned: frozenset[Digest] = frozenset()
        self._lock = threading.Lock()

    def lease(self, digest: Digest) -> bool:
        """Note it, *before* the catalog is asked. False: it is being collected, say it is gone."""
        with self._lock:
            if digest in self._condemned:
                return False
            self._at[digest] = self._clock()
            self._at.move_to_end(digest)
            if len(self._at) > self._most:
                self._at.popitem(last=False)
            return True

    def active(self) -> frozenset[Digest]:
        """What was asked about lately."""
        with self._lock:
            limit = self._clock() - self._seconds
            while self._at and next(iter(self._at.values())) < limit:
                self._at.popitem(last=False)
            return frozenset(self._at)

    def condemn(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """These are collected from now on, until the next call; gives those that must stay."""
        with self._lock:
            asked = frozenset(digest for digest in digests if digest in self._at)
            self._condemned = frozenset(digests) - asked
        return asked
