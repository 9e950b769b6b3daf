"""How long a command waits for its agent."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.cli import client
from airside.cli.client import SOCKET_NAME, ControlClient, SilentAgentError
from support.waiting import LIMIT_SECONDS

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of an agent that takes connections, and answers nothing by itself."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / SOCKET_NAME))
        made.listen()
        yield made


def test_a_long_task_of_an_agent_that_hangs_is_given_up(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listener
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.05)
    with pytest.raises(SilentAgentError, match="does not answer"):
        ControlClient(tmp_path).follow("/v1/import", {}, lambda _done, _all: None, "the import")


def test_a_long_task_that_has_begun_may_take_any_time(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[socket.socket] = []
    connect = client.connect_control

    def noted(data: Path, seconds: float | None) -> socket.socket:
        connected.append(connect(data, seconds))
        return connected[-1]

    monkeypatch.setattr(client, "connect_control", noted)

    def answer() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(LIMIT_SECONDS)
            asked = b""
            while not asked.endswith(b"{}"):  # closing it with bytes unread would reset it
                asked += accepted.recv(4096)
            accepted.sendall(_HEAD + b'{"done_bytes": 0, "total_bytes": 1}\n')
            accepted.sendall(b'{"result": {"state": "imported"}}\n')

    limits: list[float | None] = []
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        found = ControlClient(tmp_path).follow(
            "/v1/import", {}, lambda _done, _all: limits.append(connected[0].gettimeout()), "it"
        )
    finally:
        thread.join()
    assert found == {"state": "imported"}
    assert limits == [None]
