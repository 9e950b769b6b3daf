"""What one client sends costs the agent a bounded amount of memory."""

import gzip
import hashlib
from collections.abc import Callable

import pytest

from support.agent import Agent
from support.wire import Wire, request

pytestmark = pytest.mark.system

MIB = 2**20
SENT_BYTES = 40 * MIB
"""What is sent by each; more than it may cost."""
MOST_BYTES = 32 * MIB
BLOCKED_SECONDS = 0.5
CONFIG = "allowed_hosts = ['registry.test']\n[limits]\nuploads = 20\n"
MANIFEST, UPLOADS = "/v2/m/x/manifests/1", "/v2/m/x/blobs/uploads/"


def pour(wire: Wire, piece: bytes) -> None:
    """Send this again and again, until it is enough, or nobody takes it any more."""
    wire.pour(piece, SENT_BYTES // len(piece), BLOCKED_SECONDS)


def pipelined(wire: Wire) -> None:
    pour(wire, request("GET", "/v2/_catalog") * 1000)


def endless_header(wire: Wire) -> None:
    wire.send(b"GET /v2/ HTTP/1.1\r\nX: ")
    pour(wire, b"y" * 65536)


def endless_headers(wire: Wire) -> None:
    wire.send(b"GET /v2/ HTTP/1.1\r\n")
    pour(wire, b"X: y\r\n" * 10_000)


def endless_manifest(wire: Wire) -> None:
    wire.send(request("PUT", MANIFEST, [("Transfer-Encoding", "chunked")]))
    pour(wire, b"10000\r\n" + b" " * 65536 + b"\r\n")


def behind_an_upgrade(wire: Wire) -> None:
    wire.send(request("GET", "/v2/", [("Connection", "upgrade"), ("Upgrade", "websocket")]))
    pour(wire, b"z" * 65536)


def bomb(wire: Wire) -> None:
    """4 GiB of a manifest in 4 MiB."""
    packed = gzip.compress(bytes(32 * MIB), 9) * 128
    wire.send(request("PUT", MANIFEST, [("Content-Encoding", "gzip")], packed))
    read_one(wire, {400, 413})


def bomb_of_a_blob(wire: Wire) -> None:
    data = bytes(2 * SENT_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    packed = gzip.compress(data, 1)
    target = f"{UPLOADS}?digest=sha256:{digest}"
    wire.send(request("POST", target, [("Content-Encoding", "gzip")], packed))
    read_one(wire, {201})


def many_uploads(wire: Wire) -> None:
    """More than `limits.uploads`: one that nobody writes to gives its place to the next."""
    for _ in range(30):
        wire.send(request("POST", UPLOADS, body=b""))
        read_one(wire, {202, 429})


def many_targets(wire: Wire) -> None:
    for number in range(400):
        wire.send(request("GET", f"/v2/m/{number}/{'a' * 200}/tags/list?last={'b' * 4000}"))
        read_one(wire, {400, 404})


def read_one(wire: Wire, allowed: set[int]) -> int:
    reply = wire.read("GET")
    assert reply is not None
    assert reply.status in allowed, reply
    return reply.status


CLIENTS: tuple[Callable[[Wire], None], ...] = (
    many_targets,
    pipelined,
    endless_header,
    endless_headers,
    endless_manifest,
    behind_an_upgrade,
    bomb,
    bomb_of_a_blob,
    many_uploads,
)


def test_no_client_takes_much_memory(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data", config=CONFIG) as agent:
        with Wire(agent.registry) as wire:
            wire.send(request("POST", f"{UPLOADS}?digest=sha256:{'0' * 64}", body=bytes(8 * MIB)))
            read_one(wire, {400})
        first = before = agent.peak_bytes()
        for client in CLIENTS:
            with Wire(agent.registry) as wire:
                client(wire)
            after = agent.peak_bytes()
            with capsys.disabled():
                print(f"\nmemory: {client.__name__}: {(after - before) / MIB:.1f} MiB more")
            assert after - first < MOST_BYTES, client.__name__
            before = after
        assert agent.logged("error", "critical") == []
