"""`min_free_bytes` on a real, small file system, for every way by which bytes come in."""

import contextlib
import http.client
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.agent import Agent
from support.disks import LeastFree, free_bytes, small_disk
from support.images import docker_archive, random_image, sha256
from support.size import sized
from support.upstreams import stubbed
from support.waiting import LIMIT_SECONDS

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
    pytest.mark.needs("mount", "umount", "mkfs.ext4"),
]
MIB = 1 << 20
DISK = sized(96, 300) * MIB
LEAST = sized(32, 64) * MIB


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with small_disk(tmp_path_factory.mktemp("space") / "disk", DISK) as found:
        yield found


def endless(handler):
    """Blobs of an upstream registry: more than the disk, without a length if the name is wrong."""
    if "/blobs/" not in handler.path or handler.command != "GET":
        return False
    handler.send_response(200)
    if "/sized/" in handler.path:
        handler.send_header("Content-Length", str(DISK))
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        for _ in range(DISK // MIB):
            handler.wfile.write(bytes(MIB))
    return True


@pytest.fixture(scope="module")
def upstream():
    with stubbed() as stub:
        stub.act = endless
        yield stub


@pytest.fixture(scope="module")
def agent(disk, upstream, tmp_path_factory):
    images = tmp_path_factory.mktemp("images")
    environ = {
        "AIRSIDE_MIN_FREE_BYTES": str(LEAST),
        "AIRSIDE_LOW_SPACE_BYTES": "1MiB",
        "AIRSIDE_RETRY_SECONDS": "600",
    }
    config = f'upstream = ["up.example={upstream.url}"]'
    with (
        LeastFree(disk) as least,
        Agent(images, disk / "data", environ=environ, config=config) as agent,
    ):
        yield agent
    assert least.looks
    assert least.least_bytes >= LEAST


def begun(agent):
    """A new upload: its path."""
    host, _, port = agent.registry.rpartition(":")
    with contextlib.closing(
        http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)
    ) as connection:
        connection.request("POST", "/v2/team/app/blobs/uploads/")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 202, answer.status
        return answer.getheader("Location")


def answer_of(sock):
    """The status of the answer; None if the connection was cut before it came."""
    with contextlib.suppress(OSError):
        head = sock.recv(4096)
        if head:
            return int(head.split(b" ", 2)[1])
    return None


def send(agent, path, *, declared=None, sent=0, ends=False):
    """PATCH of `sent` bytes; gives the status, None without an answer."""
    host, _, port = agent.registry.rpartition(":")
    chunked = "Transfer-Encoding: chunked" if declared is None else f"Content-Length: {declared}"
    with socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS) as sock:
        sock.sendall(f"PATCH {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{chunked}\r\n\r\n".encode())
        piece = os.urandom(MIB)
        framed = b"%x\r\n%s\r\n" % (len(piece), piece) if declared is None else piece
        try:
            for _ in range(sent // MIB):
                sock.sendall(framed)
            if ends and declared is None:
                sock.sendall(b"0\r\n\r\n")
        except OSError:
            return answer_of(sock)
        return answer_of(sock) if ends or declared is not None else None


def test_an_upload_that_is_larger_than_the_free_space_frees_its_bytes_at_once(agent, disk):
    before = free_bytes(disk)
    assert send(agent, begun(agent), sent=DISK, ends=True) in {507, None}
    agent.wait_for(lambda: free_bytes(disk) > before - 2 * MIB, what="its bytes are freed")


def test_an_upload_whose_declared_length_does_not_fit_is_refused_before_its_bytes(agent, disk):
    before = free_bytes(disk)
    assert send(agent, begun(agent), declared=DISK) == 507
    assert free_bytes(disk) > before - 2 * MIB


def test_many_uploads_that_never_end_leave_the_space_and_give_way_to_a_drop(agent, disk):
    paths = [begun(agent) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for path in paths:
            pool.submit(send, agent, path, sent=DISK // 4)
    size = (free_bytes(disk) - LEAST) // 2 + (DISK - LEAST) // 4
    archive = agent.watched / "app.tar"
    docker_archive(archive, {"example.com/app:1": random_image(1, layers=1, layer_bytes=size)})
    agent.wait_state(archive, "imported", "failed")
    agent.wait_imported(archive)


def test_drops_that_do_not_fit_wait_and_names_are_still_recorded(agent):
    archives = [agent.watched / f"big-{number}.tar" for number in range(3)]
    for number, archive in enumerate(archives):
        image = random_image(f"big {number}", layers=1, layer_bytes=(DISK - LEAST) * 2 // 3)
        docker_archive(archive, {f"example.com/big:{number}": image})
    states = [agent.wait_state(each, "imported", "failed")["state"] for each in archives]
    assert "failed" in states
    assert agent.get("/v2/example.com/app/manifests/1")[0] == 200


@pytest.mark.parametrize("name", ["sized", "unsized"])
def test_a_blob_of_an_upstream_that_does_not_fit_is_given_up_and_freed(agent, disk, upstream, name):
    before = free_bytes(disk)
    digest = sha256(name.encode())
    with contextlib.suppress(OSError, http.client.HTTPException):
        agent.get(f"/v2/up.example/x/{name}/blobs/{digest}")
    assert upstream.asked(f"/x/{name}/blobs/{digest}")
    agent.wait_for(lambda: free_bytes(disk) > before - 2 * MIB, what="its bytes are freed")


def test_an_upload_that_nobody_ends_is_freed_by_a_collection(agent, disk):
    before = free_bytes(disk)
    send(agent, begun(agent), sent=4 * MIB)
    agent.wait_for(
        lambda: agent.ask("/v1/gc", method="POST", body={"dry_run": False})["items"],
        what="the idle upload is listed",
    )
    agent.wait_for(lambda: free_bytes(disk) > before - MIB, what="its bytes are freed")
