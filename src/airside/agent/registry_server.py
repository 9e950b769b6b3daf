"""The registry's HTTP server in the agent: application, listener, watchdog, access files. Async.

Serves nothing when the setting `listen` is empty. Certificates, passwords and rules are read again
when their files change.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import web

from airside.agent.node import Node
from airside.agent.watchdog import Watchdog
from airside.core.listen_address import parse_listen
from airside.core.settings import KIB, Settings
from airside.registry.auth.files import SecurityFiles, open_security_files
from airside.registry.http.app import create_app
from airside.registry.http.blob_guard import BlobGuard
from airside.registry.http.deadline import DeadlinePool
from airside.registry.http.listener import Listener
from airside.registry.http.malformed import give_targets, http_log
from airside.registry.http.metering import RequestCounter
from airside.registry.http.middleware import AccessGuard
from airside.registry.http.page_guard import PageGuard
from airside.registry.http.receive import receiver_of
from airside.registry.http.served_content import ServedContent
from airside.registry.proxy.pull_through import PullThrough
from airside.registry.rules.web_pages import known_names

log = logging.getLogger("airside.agent")

CLEANUP_SECONDS = 1.0
"""For requests that are answered when the server stops."""
_BODY_BYTES = 256 * KIB
"""Bytes of a body that are received ahead of those that are written."""
_KEEPALIVE_SECONDS = 75.0
_REREAD_SECONDS = 2.0

AddRoutes = Callable[[web.Application], None]


class RegistryServer:
    """Serves one node's registry. Belongs to the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        *,
        reads: Executor,
        pushes: Executor,
        fetches: Executor,
        checks: Executor,
    ) -> None:
        """`checks`: hashes blobs while they are sent."""
        self._checks = checks
        self._settings, self._node = settings, node
        self._reads, self._pushes, self._fetches = reads, pushes, fetches
        self._secured: SecurityFiles | None = None
        self._watchdog: Watchdog | None = None
        self.address: str | None = None
        """HOST:PORT while it listens."""
        self._listener: Listener | None = None

    @asynccontextmanager
    async def serving(self, *add_routes: AddRoutes) -> AsyncIterator[None]:
        """Listen for as long as the context lasts. Raises ConfigError, UnavailableError.

        `add_routes`: each adds routes beside the registry's: health, metrics, the page.
        """
        if not self._settings.listen:
            yield
            return
        async with AsyncExitStack() as stack:
            pull_through = None
            if self._settings.upstream and not self._settings.offline:
                pull_through = PullThrough(
                    self._settings,
                    self._node.cache_writer,
                    self._fetches,
                    self._node.document_memory,
                    self._node.store.space,
                )
                await stack.enter_async_context(pull_through)
                using = asyncio.create_task(pull_through.run())
                stack.callback(using.cancel)
            await stack.enter_async_context(self._listening(pull_through, add_routes))
            yield

    async def run(self) -> None:
        """Read changed access files again, until cancelled; ends where there are none."""
        while self._secured is not None and self._secured.has_files:
            await asyncio.sleep(_REREAD_SECONDS)
            await asyncio.to_thread(self._secured.reload)

    @property
    def connections(self) -> tuple[int, int]:
        """The open connections, and how many were refused."""
        found = self._listener
        return (0, 0) if found is None else (found.connections, found.refused)

    def describe(self) -> dict[str, Any]:
        """Returns the registry's part of `status`."""
        return {
            "listen": self.address,
            "access": None if self._secured is None else self._secured.describe(),
            "fallback": None if self._watchdog is None else self._watchdog.fallback.describe(),
        }

    def log_address(self) -> None:
        """Log where the registry listens, and warn if it is open to the network without TLS."""
        if self.address is None:
            return
        has_tls = self._secured is not None and self._secured.tls is not None
        log.info("registry at %s://%s", "https" if has_tls else "http", self.address)
        if not has_tls and not self.address.startswith(("127.", "[::1]")):
            log.warning("the registry is open to the network without TLS: insecure = true")

    @asynccontextmanager
    async def _listening(
        self, pull_through: PullThrough | None, add_routes: Sequence[AddRoutes]
    ) -> AsyncIterator[None]:
        host, port = parse_listen(self._settings.listen)
        secured = await asyncio.to_thread(open_security_files, self._settings, host)
        guard = AccessGuard(
            self._node.catalog,
            lambda: secured.accounts,
            self._settings,
            self._reads,
            wall=self._node.clock,
        )
        app = self._app(guard, _page_guard(self._settings, secured), pull_through)
        for add in add_routes:
            add(app)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=http_log(),
            shutdown_timeout=CLEANUP_SECONDS,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            read_bufsize=_BODY_BYTES,
        )
        await runner.setup()
        assert runner.server is not None
        give_targets(runner.server)
        listener = self._listener = Listener(
            runner.server,
            lambda: secured.tls,
            max_connections=self._settings.max_connections,
            max_client_connections=self._settings.max_client_connections,
        )
        try:
            await listener.start(host, port)
            self.address, self._secured = _address(listener.addresses[0]), secured
            async with self._watched(listener.sockets, tls=secured.tls is not None):
                yield
        finally:
            await listener.close()
            await runner.cleanup()
            await guard.close()

    def _app(
        self, guard: AccessGuard, pages: PageGuard, pull_through: PullThrough | None
    ) -> web.Application:
        node, settings = self._node, self._settings
        content = ServedContent(
            node.catalog,
            node.store,
            settings.default_registry,
            node.read_through,
            pull_through,
            BlobGuard(
                node.store,
                node.catalog.blob_size,
                node.store.suspect,
                self._checks,
                hashes=settings.verify_reads_after_seconds > 0,
            ),
        )
        return create_app(
            content,
            DeadlinePool(self._reads, settings.answer_seconds),
            receiver=receiver_of(
                node.pusher, self._pushes, settings, node.store.space, node.document_memory
            ),
            guard=guard,
            pages=pages,
            counter=RequestCounter(node.meters),
            misses=node.misses,
            answers_health=False,
        )

    @asynccontextmanager
    async def _watched(self, sockets: Sequence[socket.socket], *, tls: bool) -> AsyncIterator[None]:
        """Run the watchdog, whose fallback server answers if the event loop hangs."""
        seconds = self._settings.answer_seconds
        if not seconds:
            yield
            return
        self._watchdog = Watchdog(sockets, seconds, tls=tls)
        beating = asyncio.create_task(self._watchdog.run())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])


def _page_guard(settings: Settings, secured: SecurityFiles) -> PageGuard:
    names = known_names(settings, is_loopback=secured.is_loopback)
    return PageGuard(names, is_writable=not settings.read_only)


def _address(found: tuple[str, int]) -> str:
    host, port = found
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
