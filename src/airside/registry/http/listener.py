"""Takes the registry's connections: how many, from whom, over TLS or not. Async.

A connection is counted, and refused, before a byte of it is read or a TLS handshake begins. Each
handshake uses the certificate that is in force then. Clients count by their address; IPv6 by /64.

Slow clients: a handshake ends after `HANDSHAKE_SECONDS`; the head of a request after the runner's
keep-alive time (aiohttp); a body by `registry.pace`; whoever takes nothing of what is sent, after
`UNREAD_SECONDS` by the kernel.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import cast

from aiohttp import web

from airside.core.errors import ConfigError
from airside.registry.rules.token_bucket import client_key

HANDSHAKE_SECONDS = 15.0
UNREAD_SECONDS = 300
BACKLOG = 128
_PAUSE_SECONDS = 0.5
_LOG = logging.getLogger("airside.registry")


class Listener:
    """Hands connections to aiohttp's server. A limit of 0 is none."""

    def __init__(
        self,
        server: web.Server,
        tls: Callable[[], ssl.SSLContext | None],
        *,
        max_connections: int,
        max_client_connections: int,
    ) -> None:
        self._server, self._tls = server, tls
        self._max, self._max_client = max_connections, max_client_connections
        self._clients: Counter[str] = Counter()
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self.refused = 0
        """How many connections were one too many."""

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Those that listen."""
        return tuple(self._sockets)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [cast("tuple[str, int]", sock.getsockname()[:2]) for sock in self._sockets]

    @property
    def connections(self) -> int:
        return self._clients.total()

    async def start(self, host: str, port: int) -> None:
        """Listen on every address of the host. Raises ConfigError."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(_bind(family, address))
        except (OSError, UnicodeError) as exc:
            self._close_sockets()
            raise ConfigError(
                f"cannot listen on {host}:{port}: {exc}; choose another --listen"
            ) from exc
        self._accepting = [asyncio.create_task(self._accept(sock)) for sock in self._sockets]

    async def close(self) -> None:
        """Take no more connections; those that are there are the server's to end."""
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except ConnectionError:
                continue  # it went before we looked
            except OSError as exc:  # no more descriptors: those in use come back
                _LOG.warning("cannot take a connection: %s", exc.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            key = client_key(address[0])
            if not self._admit(key):
                sock.close()
                continue
            task = asyncio.create_task(self._hand_over(sock, key))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _admit(self, key: str) -> bool:
        is_full = self._max and self.connections >= self._max
        if is_full or (self._max_client and self._clients[key] >= self._max_client):
            self.refused += 1
            why = "in all" if is_full else "of this client"
            _LOG.debug("connection from %s refused: too many %s", key, why)
            self._clients += Counter()  # without those of no connection
            return False
        self._clients[key] += 1
        return True

    def _release(self, key: str) -> None:
        self._clients[key] -= 1
        if not self._clients[key]:
            del self._clients[key]

    async def _hand_over(self, sock: socket.socket, key: str) -> None:
        """Hand a connection to the server, after the handshake where there is TLS."""
        protocol = _CountedProtocol(self._server(), lambda: self._release(key))
        tls = self._tls()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                sock,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
            )
        except (OSError, ssl.SSLError) as exc:
            _LOG.debug("connection from %s failed: %s", key, exc)
            sock.close()
            protocol.end()
        except BaseException:
            sock.close()
            protocol.end()
            raise


def _bind(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)  # type: ignore[arg-type] # as getaddrinfo gave it
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class _CountedProtocol(asyncio.Protocol):
    """aiohttp's protocol, and a word when its connection is over."""

    def __init__(self, inner: asyncio.Protocol, on_end: Callable[[], None]) -> None:
        self._inner = inner
        self._on_end: Callable[[], None] | None = on_end
        self.data_received = inner.data_received  # type: ignore[method-assign] # one call less
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()
        self._inner.connection_lost(exc)

    def end(self) -> None:
        if self._on_end is not None:
            self._on_end()
            self._on_end = None
