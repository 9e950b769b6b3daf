"""Knows which chain IDs are being unpacked, and who else needs them (ADR 0047).

A chain ID is unpacked by one thread; whoever finds it claimed continues when it is released. Images
and archives say which chains they need until they end: a chain that somebody needs is not deleted
from the record of what is not synced.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from airside.oci.digest import Digest


class ChainClaims:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Digest, list[Callable[[], None]]] = {}
        self._coming: set[Digest] = set()
        self._needed: Counter[Digest] = Counter()

    def claim(self, chain: Digest, again: Callable[[], None]) -> bool:
        """Claims a chain ID. False: another thread has it, and `again` is called when it ends."""
        with self._lock:
            if chain in self._waiting:
                self._waiting[chain].append(again)
                return False
            self._waiting[chain] = []
            return True

    def release(self, chain: Digest) -> None:
        """Ends a claim, and calls those that wait."""
        with self._lock:
            waiting = self._waiting.pop(chain)
        for again in waiting:
            again()

    def is_claimed(self, chain: Digest) -> bool:
        """Returns True if a chain ID is claimed, or `coming`."""
        with self._lock:
            return chain in self._waiting or chain in self._coming

    def coming(self, chain: Digest) -> None:
        """Notes that a layer will be claimed by who opens it, so that nobody else opens it too."""
        with self._lock:
            self._coming.add(chain)

    def came(self, chain: Digest) -> None:
        """Ends `coming`."""
        with self._lock:
            self._coming.discard(chain)

    def need(self, chains: Iterable[Digest]) -> None:
        """Notes that these chains are about to be unpacked; to be called before they are recorded.

        `done` ends it.
        """
        with self._lock:
            self._needed.update(chains)

    def done(
        self, chains: Sequence[Digest], forget: Callable[[list[Digest]], None] | None = None
    ) -> None:
        """Ends `need`. Calls `forget` with those that nobody else needs, before anybody can."""
        with self._lock:
            for chain in chains:
                self._needed[chain] -= 1
                if self._needed[chain] <= 0:
                    del self._needed[chain]
            free = [chain for chain in chains if chain not in self._needed]
            if forget is not None and free:
                forget(free)
