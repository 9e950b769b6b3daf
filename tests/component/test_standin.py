"""An agent that hangs, or whose disk does, is answered for, so that a pull goes on elsewhere."""

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager, suppress

import pytest

from airside.agent import FALLBACK_COMMAND, fallback_process
from airside.agent.fallback_server import HEAD_BYTES
from airside.agent.watchdog import Watchdog
from airside.oci.model import parse_document
from airside.oci.reference import Repository
from airside.registry.rules.read_through import ReadThrough
from support.images import random_image
from support.memory import MemoryStore, MemoryView
from support.served import served
from support.waiting import LIMIT_SECONDS, wait_until

HOME = Repository("docker.io", "library/app")
IMAGE = random_image("standin")
SILENCE = 0.3
MIRROR = "/v2/library/app/manifests/1?ns=docker.io"


class Beating:
    """An agent's event loop, which can be held."""

    def __init__(self, *, tls: bool = False) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.free = threading.Event()
        self.heartbeat = Watchdog([self.listening], SILENCE, tls=tls)
        self.fallback = self.heartbeat.fallback
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with closing(self.loop):
            self.task = self.loop.create_task(self.heartbeat.run())
            self.loop.run_until_complete(asyncio.wait([self.task]))

    @property
    def state(self) -> str:
        return self.fallback.describe()["state"]

    def hold(self) -> None:
        self.free.clear()
        self.loop.call_soon_threadsafe(self.free.wait, 30)

    def stop(self) -> None:
        self.free.set()
        self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(LIMIT_SECONDS)
        self.listening.close()

    def ask(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        with closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS)
        ) as connection:
            connection.request(method, target)
            answer = connection.getresponse()
            return answer.status, answer.read()


@contextmanager
def beating(**settings):
    found = Beating(**settings)
    try:
        yield found
    finally:
        found.stop()


def test_it_answers_while_the_agent_is_silent_and_leaves_all_to_one_that_beats():
    with beating() as agent:
        agent.hold()
        status, body = agent.ask(MIRROR)
        assert (status, b"ask elsewhere" in body) == (404, True)
        assert agent.ask(MIRROR, "HEAD") == (404, b"")
        others = ("/v2/", "/v2/a/tags/list?n=1", "/healthz", "/readyz", "/metrics")
        for method, target in (("PUT", MIRROR), *(("GET", path) for path in others)):
            assert agent.ask(target, method)[0] == 503
        with closing(socket.create_connection(("127.0.0.1", agent.port), LIMIT_SECONDS)) as large:
            large.sendall(b"G" * (HEAD_BYTES + 1))
            assert large.recv(20).startswith(b"HTTP/1.1 503")
        with closing(socket.create_connection(("127.0.0.1", agent.port), LIMIT_SECONDS)) as slow:
            slow.sendall(b"GET / HTTP")
            assert agent.ask(MIRROR)[0] == 404  # meanwhile
            assert slow.recv(20) == b""
        agent.free.set()
        agent.listening.settimeout(0.5)
        for _ in range(40):  # from the next beat on it leaves connections to the agent
            late = socket.create_connection(("127.0.0.1", agent.port), LIMIT_SECONDS)
            with closing(late), suppress(TimeoutError):
                taken, _ = agent.listening.accept()
                with closing(taken):
                    taken.sendall(b"ours")
                    assert late.recv(4) == b"ours"
                break
        else:
            pytest.fail("it takes the connections of an agent that beats")


def test_under_tls_it_closes_the_connection():
    with beating(tls=True) as agent:
        agent.hold()
        with closing(socket.create_connection(("127.0.0.1", agent.port), LIMIT_SECONDS)) as client:
            assert client.recv(1) == b""


def test_it_is_started_again_and_ends_with_the_agent():
    with beating() as agent:
        wait_until(lambda: agent.state == "running")
        first = agent.fallback._process
        first.kill()
        wait_until(lambda: agent.fallback._process not in {None, first})
        second = agent.fallback._process
        wait_until(lambda: agent.state == "running")
        agent.hold()
        assert agent.ask(MIRROR)[0] == 404
    assert second.returncode == 0  # by itself, when the pipe was closed


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (["sh", "-c", "exit 2"], "exit code 2"),
        (["sh", "-c", "kill -9 $$"], "signal 9"),
        (["/absent/program"], "No such file"),
        (["sleep", "1000", "#"], "exit code"),  # sleep(1) refuses the words after it
        (["sh", "-c", "exec sleep 1000"], "did not answer"),
    ],
)
def test_a_program_that_is_no_fallback_server_counts_as_failed_and_is_replaced(
    program, reason, monkeypatch, caplog
):
    monkeypatch.setattr(fallback_process, "command", lambda: program)
    monkeypatch.setattr(fallback_process, "_MOST_UNHEARD", 3)
    with beating() as agent:
        wait_until(lambda: agent.state == "failed")
        assert reason in agent.fallback.describe()["reason"]
        assert "no fallback server answers" in caplog.text
        monkeypatch.undo()
        wait_until(lambda: agent.state == "running")
        assert agent.fallback.describe()["reason"] == ""


def test_the_first_argument_of_airside_chooses_it_before_the_command_line_is_imported():
    program = "import runpy, sys; runpy.run_module('airside', run_name='__main__', alter_sys=True)"
    beats, ours = os.pipe()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        numbers = [beats, listening.fileno()]
        words = [sys.executable, "-X", "importtime", "-c", program, FALLBACK_COMMAND, "1", "http"]
        process = subprocess.Popen(
            [*words, *map(str, numbers)],
            pass_fds=numbers,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(beats)
        os.write(ours, b".")
        assert process.stdout.read(1) == b"."
        os.close(ours)
        _, imported = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0
    assert b"airside.agent.fallback_server" in imported
    for absent in (b"click", b"airside.cli", b"asyncio", b"logging"):
        assert absent not in imported


# --- a disk that does not answer


class Hanging(MemoryStore):
    """Its disk answers while `answers` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.answers.set()

    def stat(self, digest):
        assert self.answers.wait(LIMIT_SECONDS)
        return super().stat(digest)


@pytest.fixture
def hanging():
    view, store = MemoryView(), Hanging()
    for blob in IMAGE.blobs:
        store.add(blob.raw)
    view.put(HOME, parse_document(IMAGE.manifest.raw, IMAGE.manifest.media_type, "m"), "1")
    through = ReadThrough(policy="false")
    with served(view, store, through, answer_seconds=SILENCE) as registry:
        yield registry, store
        store.answers.set()


def test_a_disk_that_hangs_is_a_404_for_a_mirror_and_a_503_for_others(hanging, monkeypatch):
    registry, store = hanging
    blob = f"/v2/app/blobs/{IMAGE.layers[0].digest}"
    assert registry.ask(f"{blob}?ns=docker.io").status == 200
    assert registry.ask(MIRROR).status == 200
    store.answers.clear()
    for method in ("HEAD", "GET"):
        for _ in range(4):  # more than there are threads, and not one of them waits any more
            assert registry.ask(f"{blob}?ns=docker.io", method).status == 404
            assert registry.ask(blob, method).status == 503
        assert registry.ask("/v2/app/manifests/2?ns=docker.io", method).status == 404
        assert registry.ask(MIRROR, method).status == 200  # it is in memory
    store.answers.set()
    monkeypatch.setattr("airside.core.circuit_breaker.CircuitBreaker.allows", lambda _breaker: True)
    assert registry.ask(blob).body == IMAGE.layers[0].raw
