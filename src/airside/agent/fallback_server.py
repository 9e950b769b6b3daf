"""Answers in the agent's place while it hangs: a program of its own, of the standard library only.

It inherits the agent's listening sockets, and a pipe on which the agent's event loop beats. While
the agent beats, it does nothing. When the agent is silent (stopped, or its loop blocked by a disk
that does not answer), it accepts the waiting connections and answers at once: 404 for a container
runtime's mirror request (`?ns=`), so that the runtime tries its next host, 503 for everything else.
When the agent beats again, the agent accepts again. It exits when the agent has exited.

Arguments: seconds of silence, `http` or `tls` (then connections are closed: that is an answer too),
the pipe's descriptor, those of the sockets. It echoes a byte on standard output when it heard
beats.
"""

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

HEAD_BYTES = 16384
_PATIENCE_SECONDS = 2.0
_MOST = 256
_BODY = b'{"errors":[{"code":"UNKNOWN","message":"Airside does not answer; ask elsewhere"}]}'


@dataclass
class _Client:
    sock: socket.socket
    until: float
    head: bytearray = field(default_factory=bytearray)


def reply(head: bytes) -> bytes:
    """Returns the whole answer to the head of a request."""
    method, _, rest = head.partition(b" ")
    target = rest.partition(b"\r\n")[0].partition(b" ")[0]
    query = target.partition(b"?")[2].split(b"&")
    is_mirror = method in {b"GET", b"HEAD"} and any(part.startswith(b"ns=") for part in query)
    status = b"404 Not Found" if is_mirror else b"503 Service Unavailable"
    lines = (
        b"HTTP/1.1 " + status,
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(_BODY),
        b"Cache-Control: no-store",
        b"Connection: close",
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if method == b"HEAD" else _BODY)


class FallbackServer:
    """Answers on the listening sockets. `run` returns when the agent has exited."""

    def __init__(
        self, seconds: float, beats: int, listening: list[socket.socket], *, tls: bool
    ) -> None:
        self._seconds, self._beats, self._tls = seconds, beats, tls
        self._listening = {sock.fileno(): sock for sock in listening}
        self._clients: dict[int, _Client] = {}
        self._heard_at = time.monotonic()

    def run(self) -> None:
        while self._hear():
            silent = time.monotonic() - self._heard_at
            if silent <= self._seconds:
                self._wait([self._beats], self._seconds - silent + 0.01)
                continue
            for number in self._wait([self._beats, *self._open()], _PATIENCE_SECONDS):
                self._serve(number)
            self._drop_slow()

    def _open(self) -> list[int]:
        """The descriptors to wait for; no connection is accepted while many are open."""
        taking = list(self._listening) if len(self._clients) < _MOST else []
        return [*taking, *self._clients]

    @staticmethod
    def _wait(numbers: list[int], seconds: float) -> list[int]:
        poll = select.poll()
        for number in numbers:
            poll.register(number, select.POLLIN)
        return [number for number, _ in poll.poll(seconds * 1000)]

    def _hear(self) -> bool:
        """Read the agent's beats. Returns False if the agent has exited."""
        while self._wait([self._beats], 0.0):
            if not os.read(self._beats, 4096):
                return False
            self._heard_at = time.monotonic()
            with suppress(OSError):  # the agent reads it, or is gone
                os.write(1, b".")
        return True

    def _serve(self, number: int) -> None:
        if number in self._listening:
            self._take(self._listening[number])
        elif number in self._clients:
            self._read(self._clients[number])

    def _take(self, listening: socket.socket) -> None:
        try:
            sock, _ = listening.accept()
        except OSError:  # the agent was faster, or the client is gone
            return
        sock.setblocking(False)
        if self._tls:
            sock.close()
        else:
            until = time.monotonic() + _PATIENCE_SECONDS
            self._clients[sock.fileno()] = _Client(sock, until)

    def _read(self, client: _Client) -> None:
        try:
            piece = client.sock.recv(HEAD_BYTES)
            client.head += piece
            if b"\r\n\r\n" in client.head or len(client.head) > HEAD_BYTES:
                client.sock.sendall(reply(bytes(client.head)))
                client.sock.shutdown(socket.SHUT_WR)
                piece = b""
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._close(client)

    def _drop_slow(self) -> None:
        now = time.monotonic()
        for client in [c for c in self._clients.values() if c.until < now]:
            self._close(client)

    def _close(self, client: _Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        client.sock.close()


def main(arguments: list[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when the agent has gone
    seconds, kind, beats, *numbers = arguments
    listening = [socket.socket(fileno=int(number)) for number in numbers]
    FallbackServer(float(seconds), int(beats), listening, tls=kind == "tls").run()


if __name__ == "__main__":
    main(sys.argv[1:])
