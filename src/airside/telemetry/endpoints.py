"""The endpoints for machines: `/healthz`, `/readyz`, `/metrics`. Async.

Who may read `/metrics` is decided before (`registry.http.middleware`); health is for everybody.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from airside.telemetry.exposition import accepts_gzip, exposed, negotiated
from airside.telemetry.health import Check, Health, examine
from airside.telemetry.meters import Numbers

LIVE_PATH, READY_PATH, METRICS_PATH = "/healthz", "/readyz", "/metrics"
_NOT_STORED = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

MOST_REUSED_SECONDS = 1.0
_SHARE = 50
"""Many scrapes at once must not slow imports: a text is sent again for so many times what it took
to write, at most `MOST_REUSED_SECONDS`. So writing takes at most a fiftieth of the time. A request
with `Cache-Control: no-cache` gets a text of its own."""

Collect = Callable[[Health], Awaitable[Numbers]]
"""Returns all numbers; takes the result of the checks of `/readyz`."""


class Endpoints:
    """Answers the endpoints' requests. For one event loop.

    `live`, `ready`: the checks of `/healthz` and `/readyz` by name.
    """

    def __init__(
        self,
        live: Sequence[tuple[str, Check]],
        ready: Sequence[tuple[str, Check]],
        collect: Collect,
    ) -> None:
        self._live, self._ready, self._collect = live, ready, collect
        self._written: dict[tuple[str, bool], tuple[float, bytes]] = {}
        """Until when each text is sent again, and the text."""

    def add_to(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get(LIVE_PATH, self.healthz)
        app.router.add_get(READY_PATH, self.readyz)
        app.router.add_get(METRICS_PATH, self.metrics)

    async def healthz(self, request: web.Request) -> web.Response:
        return _answer(request, await examine(self._live))

    async def readyz(self, request: web.Request) -> web.Response:
        return _answer(request, await examine(self._ready))

    async def metrics(self, request: web.Request) -> web.Response:
        content_type = negotiated(request.headers.get(hdrs.ACCEPT, ""))
        compressed = accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        fresh = "no-cache" in request.headers.get(hdrs.CACHE_CONTROL, "")
        body = await self._text(content_type, compressed=compressed, fresh=fresh)
        headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: "Accept, Accept-Encoding"}
        if compressed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=body, headers=headers | _NOT_STORED)

    async def _text(self, content_type: str, *, compressed: bool, fresh: bool) -> bytes:
        begun, key = time.monotonic(), (content_type, compressed)
        until, body = self._written.get(key, (0.0, b""))
        if begun < until and not fresh:
            return body
        numbers = await self._collect(await examine(self._ready))
        body = await asyncio.to_thread(exposed, numbers, content_type, compressed=compressed)
        now = time.monotonic()
        reused = min(MOST_REUSED_SECONDS, (now - begun) * _SHARE)
        self._written[key] = now + reused, body
        return body


def _answer(request: web.Request, health: Health) -> web.Response:
    status = 200 if health.is_good else 503
    is_json = request.query.get("format") == "json" or "application/json" in request.headers.get(
        hdrs.ACCEPT, ""
    )
    if is_json:
        return web.Response(
            text=health.to_json(),
            status=status,
            content_type="application/json",
            headers=_NOT_STORED,
        )
    text = health.to_text(verbose="verbose" in request.query)
    return web.Response(text=text, status=status, headers=_NOT_STORED)
