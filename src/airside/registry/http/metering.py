"""The outermost middleware: counts requests by route and status. Async."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from airside.ports.measures import RequestMeter
from airside.registry.http.requests import target_of
from airside.registry.rules.routes import route_of

METER: web.RequestKey[RequestMeter] = web.RequestKey("meter", RequestMeter)
"""Of the request, for those who send a body in pieces."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CANCELLED = 499
"""The status of a request whose client has gone before it was answered."""
_FAILED = 500


class RequestCounter:
    """The middleware. The time is that until the answer begins: of a blob without its body."""

    def __init__(self, meter: RequestMeter) -> None:
        self._meter = meter

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started, status = time.monotonic(), _FAILED
        try:
            request[METER] = self._meter
            response = await handler(request)
            status = response.status
            self._count_body(request, response)
        except web.HTTPException as exc:
            status = exc.status
            raise
        except (ConnectionError, asyncio.CancelledError):
            status = CANCELLED
            raise
        finally:
            seconds = time.monotonic() - started
            self._meter.requested(request.method, route_of(target_of(request)), status, seconds)
        return response

    def _count_body(self, request: web.Request, response: web.StreamResponse) -> None:
        """Count a body that is in memory; others are counted while they are sent."""
        if isinstance(response, web.Response) and request.method != "HEAD":
            body = response.body
            if isinstance(body, bytes):
                self._meter.sent(len(body))
