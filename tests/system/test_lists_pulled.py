"""Lists of images, pulled by a real containerd through CRI and its `hosts.toml`."""

import asyncio
import http.server
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.archive.sample import SAMPLE_NAME, write_sample
from airside.containerd.channel import Channel
from airside.containerd.cri import Cri
from airside.containerd.image_puller import ImagePuller
from airside.core.errors import PullRefusedError, StoppedError
from airside.core.settings import WatchedDirectory
from support.agent import Agent
from support.connected import connect_pullers
from support.containerd import Containerd
from support.nodes import node_at
from support.queues import running

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

ABSENT = "docker.io/airside/absent:1"


def mirror(containerd: Containerd, registry: str) -> None:
    """What answers for docker.io, alone and over plain HTTP."""
    file = containerd.hosts / "docker.io/hosts.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'server = "http://{registry}"\n[host."http://{registry}"]\n')


@pytest.fixture
def cri(containerd: Containerd) -> Iterator[Cri]:
    with Channel(str(containerd.socket)) as channel:
        yield Cri(channel)


@pytest.fixture
def registry(agent: Agent, containerd: Containerd) -> Agent:
    """An agent that has the sample, as the mirror."""
    archive = agent.watched / "hello.tar"
    write_sample(archive)
    agent.wait_imported(archive)
    mirror(containerd, agent.registry)
    return agent


@contextmanager
def puller_node(tmp_path: Path, cri: Cri, **changes: object) -> Iterator[tuple[Node, Path]]:
    """A node that has containerd pull lists, and the directory that it watches."""
    images = tmp_path / "lists"
    images.mkdir(exist_ok=True)
    quick = {"settle_seconds": 0.1, "retry_seconds": 0.5, "refused_seconds": 0.5, **changes}
    with node_at(tmp_path / "lists-data", images=(WatchedDirectory(images),), **quick) as node:
        connect_pullers(node, [ImagePuller(cri, "containerd")])
        yield node, images


def test_a_list_is_pulled_through_the_mirror(tmp_path: Path, registry: Agent, cri: Cri):
    async def scenario(node: Node, images: Path) -> None:
        async with running(node) as r:
            path = images / "needed.txt"
            path.write_text(f"# what we run\n{SAMPLE_NAME}\n\n{ABSENT}\n")
            row = await r.state(path, "partial")
            assert row.images == (SAMPLE_NAME,)
            [problem] = row.problems
            assert problem.image == ABSENT
            assert problem.reason.startswith("line 4: containerd: ")
            assert "not found" in problem.reason
            found = cri.image(SAMPLE_NAME)
            assert found is not None
            assert SAMPLE_NAME in found.tags
            write_sample(registry.watched / "absent.tar", name=ABSENT)
            row = await r.state(path, "imported")
            assert row.images == (SAMPLE_NAME, ABSENT)
            assert row.problems == ()

    with puller_node(tmp_path, cri) as (node, images):
        asyncio.run(scenario(node, images))
    tags = {tag for image in cri.images() for tag in image.tags}
    assert {SAMPLE_NAME, ABSENT} <= tags


@pytest.mark.parametrize("containerd_version", ["2.1"], indirect=True)
def test_a_registry_that_was_away_is_asked_again(
    tmp_path: Path, containerd: Containerd, registry: Agent, cri: Cri
):
    async def scenario(node: Node, images: Path) -> None:
        async with running(node) as r:
            path = images / "needed.txt"
            path.write_text(f"{SAMPLE_NAME}\n")
            row = await r.state(path, "failed")
            assert "connection refused" in row.reason
            mirror(containerd, registry.registry)
            await r.state(path, "imported")

    with socket.create_server(("127.0.0.1", 0)) as closed:
        mirror(containerd, f"127.0.0.1:{closed.getsockname()[1]}")
    with puller_node(tmp_path, cri, refused_seconds=3600.0) as (node, images):
        asyncio.run(scenario(node, images))
    assert cri.image(SAMPLE_NAME) is not None


@pytest.mark.parametrize("containerd_version", ["2.1"], indirect=True)
def test_a_list_waits_while_containerd_does_not_answer(
    tmp_path: Path, containerd: Containerd, registry: Agent, cri: Cri
):
    assert registry.is_running

    async def scenario(node: Node, images: Path) -> None:
        async with running(node) as r:
            path = images / "needed.txt"
            path.write_text(f"{SAMPLE_NAME}\n")
            assert "container runtime" in (await r.state(path, "waiting")).reason
            containerd.process.send_signal(signal.SIGCONT)
            await r.queue.runtime_changed()
            await r.state(path, "imported")

    containerd.process.send_signal(signal.SIGSTOP)
    try:
        with puller_node(tmp_path, cri) as (node, images):
            asyncio.run(scenario(node, images))
    finally:
        containerd.process.send_signal(signal.SIGCONT)


@pytest.fixture
def pulling(tmp_path: Path, containerd: Containerd) -> Iterator[Agent]:
    """An agent that is connected to containerd, and not started."""
    images = tmp_path / "lists"
    images.mkdir()
    flags = ["--runtime", str(containerd.socket)]
    agent = Agent(images, tmp_path / "lists-data", flags=flags)
    yield agent
    if agent.is_running:
        agent.stop()


def is_connected(agent: Agent) -> bool:
    return any(runtime["connected"] for runtime in agent.status()["runtimes"])


@pytest.mark.parametrize("containerd_version", ["2.1"], indirect=True)
def test_the_agent_has_a_dropped_list_pulled_and_not_again_after_a_restart(
    containerd: Containerd, registry: Agent, pulling: Agent
):
    assert registry.is_running
    path = pulling.watched / "needed.txt"
    path.write_text(f"{SAMPLE_NAME}\n")
    pulling.start()
    found = pulling.wait_state(path, "imported")
    assert (found["kind"], found["images"], found["problems"]) == ("list", [SAMPLE_NAME], [])
    assert SAMPLE_NAME in containerd.did("images", "ls", "-q").split()
    assert pulling.images() == {}
    explained = pulling.ask(f"/v1/explain?what={SAMPLE_NAME}")
    socket_path = str(containerd.socket)
    assert (explained["kind"], explained["read_through"]) == ("runtime", "open")
    [listed], [held] = explained["lists"], explained["runtimes"]
    assert (listed["path"], listed["pulled"]) == (str(path), True)
    assert (listed["runtime"], held["socket"], held["served"]) == (socket_path, socket_path, False)
    assert held["digest"] == registry.images()[SAMPLE_NAME]["digest"]
    containerd.did("images", "rm", "--sync", SAMPLE_NAME)
    gone = pulling.ask(f"/v1/explain?what={SAMPLE_NAME}")
    assert (gone["kind"], gone["lists"]) == ("absent", [listed])
    after = pulling.now()
    pulling.restart()
    pulling.wait_for(lambda: is_connected(pulling))
    pulling.wait_idle()
    assert pulling.events(path=path, after=after) == []
    assert SAMPLE_NAME not in containerd.did("images", "ls", "-q").split()
    result = pulling.import_file(path)["result"]  # a person who asks is not put off
    assert (result["state"], result["images"]) == ("imported", [SAMPLE_NAME])
    assert SAMPLE_NAME in containerd.did("images", "ls", "-q").split()


@pytest.mark.parametrize("containerd_version", ["2.1"], indirect=True)
def test_the_agent_stops_in_time_while_a_registry_does_not_answer(
    containerd: Containerd, pulling: Agent
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror(containerd, f"127.0.0.1:{silent.getsockname()[1]}")
        path = pulling.watched / "needed.txt"
        path.write_text(f"{SAMPLE_NAME}\n")
        pulling.start()
        pulling.wait_state(path, "importing")
        connection, _ = silent.accept()
        with connection:
            pulling.stop()


def test_a_pull_from_a_registry_that_does_not_answer_stops_soon(containerd: Containerd, cri: Cri):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror(containerd, f"127.0.0.1:{silent.getsockname()[1]}")
        stop = threading.Event()
        timer = threading.Timer(1.0, stop.set)
        timer.start()
        puller = ImagePuller(cri, "containerd")
        with pytest.raises(StoppedError):  # it would last for ever
            puller.pull(SAMPLE_NAME, stop=stop.is_set)
        timer.join()
        assert puller.is_available


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_denies_an_image_refuses_it(containerd: Containerd, cri: Cri, status: int):
    class Denying(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denying) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            mirror(containerd, f"127.0.0.1:{server.server_port}")
            with pytest.raises(PullRefusedError):
                ImagePuller(cri, "containerd").pull(SAMPLE_NAME, stop=lambda: False)
        finally:
            server.shutdown()
            thread.join()
