"""Serves `/metrics` and health at an address of their own (setting `metrics_listen`). Async.

For a Prometheus that does not reach the registry, such as one in a pod while the registry is on
loopback. Everybody who reaches the address may read; nothing else is answered, and without TLS.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import web

from airside.core.listen_address import parse_listen
from airside.core.settings import Settings
from airside.registry.auth.files import is_loopback
from airside.registry.http.listener import Listener
from airside.registry.http.malformed import give_targets, http_log
from airside.registry.http.page_guard import PageGuard
from airside.registry.rules.web_pages import known_names
from airside.telemetry.endpoints import Endpoints

log = logging.getLogger("airside.agent")

_MOST_CONNECTIONS, _MOST_OF_CLIENT = 50, 20
_KEEPALIVE_SECONDS = 75.0
_CLEANUP_SECONDS = 1.0


@asynccontextmanager
async def serving_metrics(settings: Settings, endpoints: Endpoints) -> AsyncIterator[None]:
    """Listens for as long as the context lasts, if the setting asks for it. Raises ConfigError."""
    if not settings.metrics_listen:
        yield
        return
    host, port = parse_listen(settings.metrics_listen, "metrics_listen")
    runner = web.AppRunner(
        _app(settings, endpoints, host),
        access_log=None,
        logger=http_log(),
        shutdown_timeout=_CLEANUP_SECONDS,
        keepalive_timeout=_KEEPALIVE_SECONDS,
    )
    await runner.setup()
    assert runner.server is not None
    give_targets(runner.server)
    listener = Listener(
        runner.server,
        lambda: None,
        max_connections=_MOST_CONNECTIONS,
        max_client_connections=_MOST_OF_CLIENT,
    )
    try:
        await listener.start(host, port, "metrics_listen")
        found, number = listener.addresses[0]
        address = f"[{found}]:{number}" if ":" in found else f"{found}:{number}"
        log.info("metrics at http://%s/metrics", address)
        yield
    finally:
        await listener.close()
        await runner.cleanup()


def _app(settings: Settings, endpoints: Endpoints, host: str) -> web.Application:
    own = replace(settings, listen=settings.metrics_listen, tls_cert="")
    names = known_names(own, is_loopback=is_loopback(host, "metrics_listen"))
    app = web.Application(middlewares=[PageGuard(names, is_writable=False).middleware])
    endpoints.add_to(app)
    return app
