"""What is said of a containerd that is away: one sentence, and nothing of gRPC."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airside.containerd.client import Client
from airside.core.errors import ContainerdError

Serve = Callable[[socket.socket], None]


def hangs(_client: socket.socket) -> None:
    """Keeps the connection."""


def hangs_up(client: socket.socket) -> None:
    client.close()


def speaks_http(client: socket.socket) -> None:
    client.recv(1000)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@contextlib.contextmanager
def serving(path: Path, serve: Serve) -> Iterator[None]:
    """Something that listens on a socket, as containerd would."""
    clients: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    clients.append(server.accept()[0])
                    serve(clients[-1])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in clients:
                client.close()


def said(path: Path, seconds: float = 10.0) -> ContainerdError:
    with (
        Client.open(str(path), patience_seconds=seconds) as client,
        pytest.raises(ContainerdError) as caught,
    ):
        client.version()
    return caught.value


def judge(error: ContainerdError, words: str) -> None:
    assert words in error.message
    assert error.is_away
    for word in ("grpc", "unix:", "addr", "last error", "FAILED_PRECONDITION", "\n", "HTTP"):
        assert word not in error.message


def test_a_socket_that_does_not_exist(tmp_path: Path) -> None:
    judge(said(tmp_path / "absent.sock"), "containerd does not run: its socket does not exist")


def test_a_socket_on_which_nothing_listens(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    judge(said(path), "containerd does not run: nothing listens on its socket")


def test_a_containerd_that_hangs(tmp_path: Path) -> None:
    with serving(tmp_path / "c.sock", hangs):
        judge(said(tmp_path / "c.sock", 0.3), "containerd did not answer within 0.3 s")


def test_a_containerd_that_stops(tmp_path: Path) -> None:
    with serving(tmp_path / "c.sock", hangs_up):
        judge(said(tmp_path / "c.sock"), "it stops or")


def test_a_server_that_is_no_containerd(tmp_path: Path) -> None:
    with serving(tmp_path / "c.sock", speaks_http):
        judge(said(tmp_path / "c.sock"), "what listens on the socket is no containerd")


def test_a_client_that_was_closed(tmp_path: Path) -> None:
    client = Client.open(str(tmp_path / "c.sock"))
    client.close()
    with pytest.raises(ContainerdError, match="the connection to containerd was closed"):
        client.version()
