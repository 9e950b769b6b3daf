"""Records which manifests containerd of this host asked for in vain.

Only what containerd resolves over a loopback address counts.
"""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from airside.registry.documents.recent_misses import RecentMisses
from airside.registry.http.requests import client_of, target_of
from airside.registry.rules.requests import GetManifest, parse_request

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ASKS = "containerd/"
"""The start of containerd's User-Agent."""


class MissRecorder:
    """A middleware of the registry."""

    def __init__(self, misses: RecentMisses) -> None:
        self._misses = misses

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method == "HEAD" and response.status in {200, 404} and _is_ours(request):
            intent = parse_request("HEAD", target_of(request))
            if isinstance(intent, GetManifest):
                self._misses.note(intent, is_found=response.status == 200)
        return response


def _is_ours(request: web.Request) -> bool:
    client = client_of(request)
    is_local = client.startswith("127.") or client == "::1"
    return is_local and request.headers.get(hdrs.USER_AGENT, "").startswith(_ASKS)
