"""The outermost middleware: refuses what web pages may not ask, and answers OPTIONS. Async.

`registry.rules.web_pages` decides. No login is looked at before, and no body is read.
"""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion10, hdrs, web

from airside.registry.http.requests import target_of
from airside.registry.http.responses import response_of
from airside.registry.rules.answers import Answer
from airside.registry.rules.methods import allowed_methods
from airside.registry.rules.web_pages import KnownNames, PageRequest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_TOLD = 16
"""Unknown names that the log warns of, each once: requests must not fill it."""
_LOG = logging.getLogger("airside.registry")


class PageGuard:
    """The middleware. `is_writable`: the registry accepts pushes and deletions."""

    def __init__(self, names: KnownNames, *, is_writable: bool) -> None:
        self._names, self._is_writable = names, is_writable
        self._told: set[str] = set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = self._names.refusal(_page_request(request))
        if refused is not None:
            _LOG.debug("%s %s refused: %d", request.method, request.raw_path, refused.status)
            if refused.status == 421:
                self._tell(request)
            return response_of(refused)
        if request.method == "OPTIONS":
            methods = allowed_methods(request.raw_path, is_writable=self._is_writable)
            return response_of(Answer(204, headers=(("Allow", ", ".join(methods)),)))
        return await handler(request)

    def _tell(self, request: web.Request) -> None:
        """Warns of a name that may be the registry's: a mirror by it is not used, silently."""
        name = request.headers.get(hdrs.HOST, "")[:200]
        if name in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(name)
        _LOG.warning(
            "a request of %s for the unknown name %r is refused (421); if this registry has that "
            "name, such as in a mirror setting or a proxy, add it to the setting allowed_hosts",
            request.remote,
            name,
        )


def _page_request(request: web.Request) -> PageRequest:
    def all_of(name: str) -> tuple[str, ...]:
        return tuple(request.headers.getall(name, ()))

    raw = request.raw_path
    authority = None if raw.startswith("/") or raw == "*" else _authority(raw)
    return PageRequest(
        request.method,
        target_of(request).partition("?")[0],
        all_of(hdrs.HOST),
        all_of(hdrs.ORIGIN),
        all_of("Sec-Fetch-Site"),
        (all_of("Sec-Fetch-Mode"), all_of("Sec-Fetch-Dest")),
        authority,
        "https" if request.secure else "http",
        request.version == HttpVersion10,
    )


def _authority(target: str) -> str:
    """The authority of a target in absolute form, or that of CONNECT."""
    return target.partition("://")[2].partition("/")[0].partition("?")[0] or target
