"""Shows refusals of the page's addresses in words, as a document. Async.

The registry's own guards refuse before a route of the page is asked, with JSON for clients. A
browser that asks for a document gets one, with the same status and the headers that it needs.
"""

import json
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from airside.page.element import h
from airside.page.layout import ROOT, View, page
from airside.page.responses import html
from airside.page.texts import english
from airside.registry.rules.web_pages import PAGE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_KEPT = (hdrs.WWW_AUTHENTICATE, hdrs.RETRY_AFTER, hdrs.ALLOW)


class Refusals:
    """The middleware."""

    def __init__(self, view: Callable[[web.Request], View]) -> None:
        self._view = view

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        is_page = request.path == PAGE or request.path.startswith(f"{PAGE}/")
        wants = "text/html" in request.headers.get(hdrs.ACCEPT, "")
        if response.status < 400 or not is_page or not wants:
            return response
        reason = _reason_of(response)
        return response if reason is None else self._document(request, response, reason)

    def _document(
        self, request: web.Request, response: web.StreamResponse, reason: str
    ) -> web.Response:
        view = self._view(request)
        shown = html(failure(view, response.status, reason), status=response.status)
        for name in _KEPT:
            if name in response.headers:
                shown.headers[name] = response.headers[name]
        return shown


def _reason_of(response: web.StreamResponse) -> str | None:
    """Returns the reason of a refusal by the registry; None for any other response."""
    if response.content_type != "application/json" or not isinstance(response, web.Response):
        return None
    try:
        return str(json.loads(response.text or "")["errors"][0]["message"])
    except (ValueError, LookupError, TypeError):
        return None


def failure(view: View, status: int, reason: str) -> str:
    """Returns the document for an error; without a reason there is no such page."""
    words = view.words
    title = words(f"error.title.{status}" if status in {401, 403, 404} else "error.title")
    told = english(reason) if reason else words("error.404")
    back = h("p", h("a", words("error.back"), href=ROOT))
    return page(view, "", title, h("p", told, role="alert"), back)
