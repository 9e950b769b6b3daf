"""Accepts the registry's connections, with limits and TLS. Async.

A connection is counted, or refused, before its first byte is read or a TLS handshake begins. Each
handshake uses the certificate that is in force then. Clients count by address; IPv6 by /64. Unused
connections of a client give way to its next (`connections`).

Slow clients: a handshake ends after `HANDSHAKE_SECONDS`; the head of a request after the runner's
keep-alive time (aiohttp); a body as `registry.http.throttle` says; the kernel drops a connection
whose client acknowledges nothing for `UNREAD_SECONDS`.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import cast

from aiohttp import web

from airside.core.errors import ConfigError
from airside.registry.http.connections import Connections
from airside.registry.rules.token_bucket import client_key

HANDSHAKE_SECONDS = 15.0
UNREAD_SECONDS = 300
BACKLOG = 128
_PAUSE_SECONDS = 0.5
_LOG = logging.getLogger("airside.registry")


class Listener:
    """Passes connections to aiohttp's server. A limit of 0 means no limit."""

    def __init__(
        self,
        server: web.Server,
        tls: Callable[[], ssl.SSLContext | None],
        *,
        max_connections: int,
        max_client_connections: int,
    ) -> None:
        self._server, self._tls = server, tls
        self._connections = Connections(max_connections, max_client_connections)
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets."""
        return tuple(self._sockets)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [cast("tuple[str, int]", sock.getsockname()[:2]) for sock in self._sockets]

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def refused(self) -> int:
        """Number of connections refused because of a limit."""
        return self._connections.refused

    async def start(self, host: str, port: int, key: str = "listen") -> None:
        """Listens on every address of the host, named by a setting. Raises ConfigError."""
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
                f"cannot listen on {host}:{port}: {exc}; choose another {key}", key=key
            ) from exc
        self._accepting = [asyncio.create_task(self._accept(sock)) for sock in self._sockets]

    async def close(self) -> None:
        """Stops accepting connections. The server ends those that exist."""
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
                continue  # the client disconnected before accept()
            except OSError as exc:  # out of descriptors: others are closed soon
                _LOG.warning(
                    "cannot accept a connection: %s; retrying in %g s", exc.strerror, _PAUSE_SECONDS
                )
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            key = client_key(address[0])
            if not self._connections.admit(key):
                sock.close()
                continue
            task = asyncio.create_task(self._hand_over(sock, key))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _hand_over(self, sock: socket.socket, key: str) -> None:
        """Passes a connection to the server, under TLS after the handshake."""
        protocol = self._connections.counted(self._server(), key)
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
        sock.bind(address)  # type: ignore[arg-type] # from getaddrinfo
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
