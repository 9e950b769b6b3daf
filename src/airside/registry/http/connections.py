"""Counts the registry's connections, and decides which give way when there are too many. Async.

A client has a share of the connections. Where the share or the whole is taken, one of its
connections gives way to the next: one without a request for a while, the longest idle first; else
one whose request hardly moves any bytes, the slowest first. So nobody keeps others out by holding
connections, on loopback neither, where all clients have one address. Busy connections stay, also
while the end of an answer is on its way, and then the next is refused. The kernel is asked how much
each moved (tcp(7): TCP_INFO) and what the client has not acknowledged (SIOCOUTQ).
"""

import asyncio
import fcntl
import logging
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

IDLE_SECONDS = 2.0
"""A connection without a request for this time may give way."""
SLOW_SECONDS = 15.0
"""A connection with a request may give way when it is this old and slow."""
SLOW_BYTES_PER_SECOND = 4096
_TCP_INFO_BYTES = 136
_LAST_RECEIVED = struct.Struct("@I")
_MOVED = struct.Struct("@QQ")
_UNSENT = struct.Struct("@i")
_LAST_RECEIVED_AT, _MOVED_AT = 52, 120
"""Offsets of tcpi_last_data_recv (ms), and of tcpi_bytes_acked and tcpi_bytes_received."""

_LOG = logging.getLogger("airside.registry")


class CountedProtocol(asyncio.Protocol):
    """aiohttp's protocol, with a callback at the end of the connection."""

    def __init__(self, inner: asyncio.Protocol, on_end: Callable[[], None]) -> None:
        self._inner = inner
        self._on_end: Callable[[], None] | None = on_end
        self._began, self._moved, self._request = time.monotonic(), 0, 1
        """When its request was first seen, the bytes moved before, and the request's number."""
        self._transport: asyncio.BaseTransport | None = None
        self.data_received = inner.data_received  # type: ignore[method-assign] # saves one call
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()
        self._inner.connection_lost(exc)

    def end(self) -> None:
        """Ends the count of the connection. Idempotent."""
        if self._on_end is not None:
            self._on_end()
            self._on_end = None

    def cut(self) -> None:
        """Ends the connection at once."""
        self.end()
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    def use(self) -> "_Use | None":
        """Returns how the connection is used; None while it is not known."""
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is None:
            return None
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            [quiet_ms] = _LAST_RECEIVED.unpack_from(info, _LAST_RECEIVED_AT)
            moved = sum(_MOVED.unpack_from(info, _MOVED_AT))
            [unsent] = _UNSENT.unpack(
                fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_UNSENT.size))
            )
        except (OSError, ValueError, struct.error):  # closed, or an older kernel
            return None
        now, request = time.monotonic(), getattr(self._inner, "_request_count", 0)
        if request > self._request:  # what the earlier ones moved, and when, tells nothing of it
            self._began, self._moved, self._request = now, moved, request
        age = now - self._began
        in_use = unsent > 0 or getattr(self._inner, "_request_in_progress", False)
        return _Use(in_use, age, quiet_ms / 1000, (moved - self._moved) / max(age, 1.0))


@dataclass(frozen=True, slots=True)
class _Use:
    has_request: bool
    age_seconds: float
    quiet_seconds: float
    bytes_per_second: float

    @property
    def rank(self) -> tuple[int, float] | None:
        """Who gives way before whom, the least first; None: not at all."""
        if not self.has_request and self.quiet_seconds >= IDLE_SECONDS:
            return (0, -self.quiet_seconds)
        if self.age_seconds >= SLOW_SECONDS and self.bytes_per_second < SLOW_BYTES_PER_SECOND:
            return (1, self.bytes_per_second)
        return None


class Connections:
    """The open connections by client. A limit of 0 means no limit. For one event loop."""

    def __init__(self, most: int, most_of_client: int) -> None:
        self._most, self._most_of_client = most, most_of_client
        self._counts: Counter[str] = Counter()
        self._open: dict[CountedProtocol, str] = {}
        self.refused = 0
        """Number of connections refused because of a limit."""

    def __len__(self) -> int:
        return self._counts.total()

    def admit(self, client: str) -> bool:
        """Counts a new connection of a client. Returns False if there is no room for it."""
        count = self._counts.get(client, 0)
        if self._most_of_client and count >= self._most_of_client:
            why, holder = "max_client_connections", client
        elif self._most and len(self) >= self._most:
            why, holder = "max_connections", max(self._counts, key=self._counts.__getitem__)
        else:
            self._counts[client] += 1
            return True
        if self._give_way(holder):
            self._counts[client] += 1
            return True
        self.refused += 1
        _LOG.debug("refused a connection from %s: limit %s is reached", client, why)
        return False

    def counted(self, inner: asyncio.Protocol, client: str) -> CountedProtocol:
        """Returns the protocol of an admitted connection; its end frees the place."""

        def ended() -> None:
            self._open.pop(made, None)
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

        made = CountedProtocol(inner, ended)
        self._open[made] = client
        return made

    def _give_way(self, holder: str) -> bool:
        """Cuts the connection of a client that is of least use. Returns False if there is none."""
        own = [each for each, client in self._open.items() if client == holder]
        ranked = [(use.rank, each) for each in own if (use := each.use()) and use.rank]
        if not ranked:
            return False
        _, victim = min(ranked, key=lambda pair: pair[0] or (2, 0.0))
        _LOG.debug("cut a connection of %s that was not used, for its next one", holder)
        victim.cut()
        return True
