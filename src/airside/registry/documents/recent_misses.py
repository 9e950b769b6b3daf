"""The images that containerd of this host asked for in vain, for a while. Thread-safe.

kubelet before 1.33 keeps no record of a pull, and CRI does not say which image a waiting pod lacks:
but kubelet tries again every five minutes at the latest, and containerd asks its mirror first.
Names and time are bounded.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from airside.oci.digest import Digest
from airside.oci.reference import Reference
from airside.registry.rules.requests import GetManifest
from airside.registry.rules.upstream import upstream_repository

MOST_NAMES = 64
KEPT_SECONDS = 600.0
"""Twice the longest back-off of kubelet."""


class RecentMisses:
    """The names, the newest last."""

    def __init__(self, default_registry: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._default_registry, self._clock = default_registry, clock
        self._lock = threading.Lock()
        self._at: OrderedDict[Reference, float] = OrderedDict()

    def names(self) -> tuple[Reference, ...]:
        """Returns the names that were asked for in vain, and not found since."""
        oldest = self._clock() - KEPT_SECONDS
        with self._lock:
            return tuple(name for name, at in self._at.items() if at >= oldest)

    def note(self, intent: GetManifest, *, is_found: bool) -> None:
        """Records what a request for a manifest got."""
        name = self._name(intent)
        with self._lock:
            self._at.pop(name, None)
            if not is_found:
                self._at[name] = self._clock()
            while len(self._at) > MOST_NAMES:
                self._at.popitem(last=False)

    def _name(self, intent: GetManifest) -> Reference:
        repository = upstream_repository(intent.name, self._default_registry)
        if isinstance(intent.reference, Digest):
            return Reference(repository, digest=intent.reference)
        return Reference(repository, intent.reference)
