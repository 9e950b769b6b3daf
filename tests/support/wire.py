"""HTTP/1.1 seen from the wire: requests byte for byte, answers read strictly.

What a client library forgives (a body after HEAD, a length that does not come true, bytes between
two answers) is an error here.
"""

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from support.waiting import LIMIT_SECONDS

QUIET_SECONDS = 0.1
"""A server that says nothing for so long waits for more."""
_STATUS = re.compile(rb"HTTP/(?:1\.[01]|0\.9) ([1-5][0-9][0-9]) [\t\x20-\x7e]*\Z")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*)\Z")


class FramingError(AssertionError):
    """Bytes that are no answer."""


@dataclass(frozen=True)
class Reply:
    """`headers` in lower case; one that came twice is joined by a comma.

    `is_last`: the connection ends after it. Then aiohttp, which can't read a request, may send a
    body in answer to HEAD too.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    is_last: bool = False


def parse_reply(data: bytes, *, is_head: bool) -> tuple[Reply, bytes] | None:
    """The first answer and what follows; None if more bytes are needed. Raises FramingError."""
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark:
        if len(head) > 65536:
            raise FramingError(f"no end of the headers: {head[:200]!r}")
        return None
    status, headers = _parse_head(head.split(b"\r\n"))
    kept = b"keep-alive" if head.startswith(b"HTTP/1.0") else b"close"
    is_last = (headers.get("connection", "").lower().encode() == kept) == (kept == b"close")
    if status < 200:
        return parse_reply(rest, is_head=is_head)
    if is_head or status in {204, 304}:
        return Reply(status, headers, b"", is_last), rest
    if "transfer-encoding" in headers or "content-length" not in headers:
        raise FramingError(f"an answer without a length: {head!r}")
    length = int(headers["content-length"])
    if len(rest) < length:
        return None
    return Reply(status, headers, rest[:length], is_last), rest[length:]


def _parse_head(lines: list[bytes]) -> tuple[int, dict[str, str]]:
    found = _STATUS.match(lines[0])
    if found is None:
        raise FramingError(f"no status line: {lines[0][:200]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        header = _HEADER.match(line)
        if header is None:
            raise FramingError(f"no header: {line[:200]!r}")
        name, value = header[1].decode().lower(), header[2].decode().strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length = headers.get("content-length")
    if length is not None and not re.fullmatch(r"[0-9]{1,18}", length):
        raise FramingError(f"no length: {length!r}")
    return int(found[1]), headers


class Wire:
    """One connection to `host:port`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), LIMIT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._kept = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send what is taken; the other side may have gone before."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def wait_begun(self) -> None:
        """Wait until an answer begins; most of it is not read."""
        self._socket.settimeout(LIMIT_SECONDS)
        self._kept += self._socket.recv(1)

    def pour(self, piece: bytes, count: int, quiet_seconds: float) -> None:
        """Send this so often, or until it is not taken for so long; answers are not read."""
        self._socket.settimeout(quiet_seconds)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(count):
                self._socket.sendall(piece)

    def read(self, method: str) -> Reply | None:
        """The answer to a request of this method; None if the connection ended before it."""
        while True:
            found = parse_reply(self._kept, is_head=method == "HEAD")
            if found is not None:
                reply, self._kept = found
                return reply
            data = self._receive()
            if not data:
                if self._kept:
                    raise FramingError(f"half an answer: {self._kept[:200]!r}")
                return None
            self._kept += data

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(262144)
        except ConnectionError:
            return b""

    def read_all(self, answers: int = 0) -> bytes:
        """Everything until the other side closes; one that waits for more is told there is none.

        So many answers are waited for; how long the others may take decides only how much is seen,
        never what is right.
        """
        found = bytearray()
        try:
            while True:
                begun = found.count(b"HTTP/1.") - found.count(b"HTTP/1.1 100 ")
                waits = begun < answers
                self._socket.settimeout(LIMIT_SECONDS if waits else QUIET_SECONDS)
                data = self._receive()
                if not data:
                    return bytes(found)
                found += data
        except TimeoutError:
            self._socket.settimeout(LIMIT_SECONDS)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            while data := self._receive():
                found += data
        return bytes(found)


def parse_replies(data: bytes, *, may_be_heads: bool) -> list[Reply]:
    """All answers of a connection that ended. Raises FramingError.

    `may_be_heads`: whether an answer may lack its body because HEAD was asked. What is cut off at
    the end was given up with the connection.
    """
    found: list[Reply] = []
    while data:
        both = [parse_reply(data, is_head=False)]
        if may_be_heads and b"\r\n\r\n" in data:
            head = parse_reply(data, is_head=True)
            if head is not None and (not head[1] or head[1].startswith(b"HTTP/")):
                both = [head]
        if both[0] is None:
            break
        reply, data = both[0]
        found.append(reply)
    return found


def request(
    method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    """A request as it should be; a length is told where there is a body."""
    lines = [f"{method} {target} HTTP/1.1", "Host: registry.test"]
    lines += [f"{name}: {value}" for name, value in headers]
    told = {name.lower() for name, _ in headers}
    if body is not None and not told & {"transfer-encoding", "content-length"}:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape")
    return head + b"\r\n\r\n" + (body or b"")


def chunked(pieces: Iterator[bytes] | Sequence[bytes]) -> bytes:
    """A body in the transfer encoding of that name."""
    parts = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
    return b"".join(parts) + b"0\r\n\r\n"
