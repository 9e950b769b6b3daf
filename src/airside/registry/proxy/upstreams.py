"""The registries upstream, each with its client and circuit breaker. For one event loop.

A request takes `upstream_seconds` at most. After a failure of an upstream, no request goes to it
for `PAUSE_SECONDS`; then a single one tests it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from airside.core.circuit_breaker import CircuitBreaker
from airside.core.errors import (
    AirsideError,
    InputError,
    NotFoundError,
    StoreError,
    UpstreamAwayError,
    UpstreamError,
)
from airside.core.settings import Settings
from airside.oci.reference import Repository
from airside.registry.documents.bodies import DocumentBodies
from airside.registry.proxy.client import UpstreamClient

NEGATIVE_SECONDS = 5.0
"""An upstream is not asked again within this time for content that it lacks or refuses."""
WRONG_SECONDS = 60.0
"""Content with wrong bytes is not fetched again within this time."""
PAUSE_SECONDS = 5.0

_LOG = logging.getLogger("airside.upstream")


class Upstreams:
    """All configured upstreams, by the registry whose names they serve. Used with `async with`."""

    def __init__(
        self,
        settings: Settings,
        bodies: DocumentBodies,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = settings.upstream_seconds
        online = () if settings.offline else settings.upstream
        self._clients = {
            table.registry: UpstreamClient(table, settings.upstream_seconds, bodies)
            for table in online
            if not table.offline
        }
        self._breakers = {host: CircuitBreaker(clock, PAUSE_SECONDS) for host in self._clients}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._clients.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def __contains__(self, host: str) -> bool:
        return host in self._clients

    def client(self, host: str) -> UpstreamClient:
        return self._clients[host]

    def available(self, host: str) -> UpstreamClient:
        """The client of an upstream. Raises UpstreamError while it is left alone after a failure.

        The caller reports the outcome with `succeeded` or `failed`.
        """
        client = self._clients[host]
        if not self._breakers[host].allows():
            raise UpstreamError(
                f"{client.upstream} did not answer lately; it is tried again within "
                f"{PAUSE_SECONDS:g} s"
            )
        return client

    def failed(self, host: str) -> bool:
        """Records a failure. Returns True if it is the first after a success."""
        return self._breakers[host].failed()

    def succeeded(self, host: str) -> bool:
        """Records an answer. Returns True if it is the first after a failure."""
        return self._breakers[host].worked()

    @asynccontextmanager
    async def asking(self, host: str) -> AsyncIterator[UpstreamClient]:
        """One request to an upstream, bounded in time.

        Raises UpstreamError while the upstream is left alone, UpstreamAwayError if it fails.
        """
        client = self.available(host)
        try:
            async with asyncio.timeout(self._seconds):
                yield client
        except (UpstreamAwayError, TimeoutError) as exc:
            message = getattr(exc, "message", f"{client.upstream} does not answer in time")
            if self.failed(host):
                _LOG.warning(
                    "%s; serving its cached content, next try in %g s", message, PAUSE_SECONDS
                )
            raise UpstreamAwayError(message) from exc
        except (NotFoundError, UpstreamError):
            self._report_answer(host)
            raise
        self._report_answer(host)

    def _report_answer(self, host: str) -> None:
        if self.succeeded(host):
            _LOG.info("%s answers again", self._clients[host].upstream)


def logged_reason(repository: Repository, exc: AirsideError) -> str:
    """The reason of a failure, for the client. Logs it too, unless the content is only absent."""
    if not isinstance(exc, NotFoundError):
        level = logging.WARNING if isinstance(exc, InputError | StoreError) else logging.INFO
        _LOG.log(level, "%s: %s", repository, exc.message)
    return exc.message
