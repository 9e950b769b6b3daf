"""The images that containerd of this host asked for in vain, for a while. Thread-safe.

kubelet before 1.33 keeps no record of a pull, and CRI does not say which image a waiting pod lacks:
but kubelet tries again every five minutes at the latest, and containerd asks its mirror first.
Only what containerd resolves over a loopback address counts; names and time are bounded.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from airside.oci.digest import Digest
from airside.oci.reference import Reference
from airside.registry.http.requests import client_of, target_of
from airside.registry.rules.requests import GetManifest, parse_request
from airside.registry.rules.upstream import upstream_repository

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_NAMES = 64
KEPT_SECONDS = 600.0
"""Twice the longest back-off of kubelet."""
_ASKS = "containerd/"
"""The start of containerd's User-Agent."""


class RecentMisses:
    """The middleware that notes them, and the list."""

    def __init__(self, default_registry: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._default_registry, self._clock = default_registry, clock
        self._lock = threading.Lock()
        self._at: OrderedDict[Reference, float] = OrderedDict()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method == "HEAD" and response.status in {200, 404} and _is_ours(request):
            intent = parse_request("HEAD", target_of(request))
            if isinstance(intent, GetManifest):
                self._note(self._name(intent), is_found=response.status == 200)
        return response

    def names(self) -> tuple[Reference, ...]:
        """Returns the names that were asked for in vain, and not found since."""
        oldest = self._clock() - KEPT_SECONDS
        with self._lock:
            return tuple(name for name, at in self._at.items() if at >= oldest)

    def _name(self, intent: GetManifest) -> Reference:
        repository = upstream_repository(intent.name, self._default_registry)
        if isinstance(intent.reference, Digest):
            return Reference(repository, digest=intent.reference)
        return Reference(repository, intent.reference)

    def _note(self, name: Reference, *, is_found: bool) -> None:
        with self._lock:
            self._at.pop(name, None)
            if not is_found:
                self._at[name] = self._clock()
            while len(self._at) > MOST_NAMES:
                self._at.popitem(last=False)


def _is_ours(request: web.Request) -> bool:
    client = client_of(request)
    is_local = client.startswith("127.") or client == "::1"
    return is_local and request.headers.get(hdrs.USER_AGENT, "").startswith(_ASKS)
