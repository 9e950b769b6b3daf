"""Small archives and pushes that ask for much: what they cost the agent, each and all in a row."""

import contextlib
import http.client
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from support import hostile_archives as hostile
from support.agent import Agent
from support.images import sha256
from support.latency import Latencies, asking
from support.size import TORTURE, sized
from support.waiting import LIMIT_SECONDS
from support.wire import Wire, request

pytestmark = pytest.mark.system

MIB = 2**20
MOST_BYTES = 300 * MIB
HOSTS = "allowed_hosts = ['registry.test']"
"""The name in the requests of `support.wire`."""
P99_SECONDS, WORST_SECONDS = 0.1, 0.5
"""Printed, and asserted in `make torture` only, over all blocks, where the load allows it."""
PUSHES, WIRES = sized(24, 40), sized(96, 240)
"""At once. Any number of 4 MiB whose sum is more than `MOST_BYTES` shows what is not bounded.

A document takes several times its text once it is parsed.
"""

DROPS: dict[str, tuple[Callable[[], hostile.Members], str]] = {
    "one child often": (hostile.one_child_listed_often, "imported"),
    "many names": (hostile.many_names, "rejected"),
    "many images": (hostile.many_images, "rejected"),
    "most names": (lambda: hostile.many_names(sized(1_000, 10_000)), "imported"),
    "many repositories": (
        lambda: hostile.many_repositories(*sized((510, 510), (5_000, 5_000))),
        "rejected",
    ),
    "many layers": (hostile.many_layers, "imported"),
    "many entries": (hostile.many_entries, "rejected"),
    "many annotations": (hostile.many_annotations, "rejected"),
    "wide annotations": (hostile.wide_annotations, "rejected"),
    "empty lists": (hostile.empty_lists, "rejected"),
    "damaged below many roots": (
        lambda: hostile.damaged_below_many_roots(*sized((510, 510), (3_000, 3_000))),
        "rejected",
    ),
    "old images": (hostile.old_images, "rejected"),
    "long texts": (lambda: hostile.long_texts(sized(1_000, 9_000)), "imported"),
    "many configs": (lambda: hostile.many_configs(sized(6, 200)), "rejected"),
}
if TORTURE:
    DROPS["long member names"] = (hostile.long_member_names, "rejected")


@contextlib.contextmanager
def measured(agent: Agent, what: str, show: "Report") -> Iterator[Latencies]:
    """Assert the peak of memory since the block began, and show it with the latencies."""
    Path(f"/proc/{agent.pid}/clear_refs").write_text("5")  # the peak counts anew: proc(5)
    with asking(agent.registry) as latencies:
        yield latencies
    peak = agent.peak_bytes()
    show(f"{what}: peak {peak / MIB:.0f} MiB; {latencies}")
    assert peak <= MOST_BYTES, what
    assert latencies.errors == []
    show.all.seconds += latencies.seconds


class Report:
    """Prints what was measured, and has the latencies of all blocks."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.all = Latencies()

    def __call__(self, text: str) -> None:
        with self._capsys.disabled():
            print(f"\nhostile: {text}")

    def check(self) -> None:
        """Assert the latencies where nothing else has the processors: never on a busy machine."""
        self(f"all together: {self.all}")
        if TORTURE and os.getloadavg()[0] < len(os.sched_getaffinity(0)):
            assert self.all.p99 < P99_SECONDS
            assert self.all.worst < WORST_SECONDS


@pytest.fixture
def show(capsys) -> Report:
    return Report(capsys)


def put(address: str, target: str, body: bytes, media_type: str) -> http.client.HTTPResponse:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)
    with contextlib.closing(connection):
        connection.request("PUT", target, body, {"Content-Type": media_type})
        answer = connection.getresponse()
        answer.read()
        return answer


def push_blob(address: str, repository: str, data: bytes) -> None:
    digest = sha256(data)
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()


def together(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def drop(agent: Agent, name: str, show: Report) -> None:
    members, state = DROPS[name]
    path = agent.data.with_name(f"{name.replace(' ', '-')}.tar")
    hostile.write_tar(path, members(), compress=name in {"many configs", "long member names"})
    with measured(agent, name, show):
        path.rename(agent.watched / path.name)
        found = agent.wait_state(agent.watched / path.name, "imported", "partial", "rejected")
    assert found["state"] == state, found
    assert "limits." in found["reason"] or state == "imported", found


@pytest.mark.parametrize("name", sized(("one child often",), tuple(DROPS)))
def test_no_archive_takes_much_memory_of_an_agent_of_its_own(tmp_path, show, name):
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data") as agent:
        drop(agent, name, show)


def test_no_archive_takes_much_memory(tmp_path, show):
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data") as agent:
        for name in DROPS:
            drop(agent, name, show)
        with measured(agent, "all archives at once", show):
            now, paths = agent.now(), list(agent.archives())
            for path in paths:
                path.touch()
            for path in paths:
                agent.wait_state(path, "imported", "partial", "rejected", after=now)
        catalog = (agent.data / "catalog.db").stat().st_size
        show(f"the catalog has {catalog / MIB:.0f} MiB")
        assert catalog < 200 * MIB
        show.check()
        assert agent.logged("critical") == []


def test_no_push_takes_much_memory(tmp_path, show):
    (tmp_path / "images").mkdir()
    with Agent(tmp_path / "images", tmp_path / "data", config=HOSTS) as agent:
        address = agent.registry
        with Wire(address) as wire:
            wire.send(request("GET", "/v2/"))
            reply = wire.read("GET")
            assert reply is not None
            assert reply.status == 200  # else the wires below ask for nothing
        root, documents, blobs = hostile.nested(100, 3)
        for data in blobs.values():
            if data not in documents:
                push_blob(address, "m/x", data)
        with measured(agent, "an index of 100 of an index of 100, three deep", show):
            for document in documents:
                kind = OCI_MANIFEST if b'"layers"' in document else OCI_INDEX
                target = f"/v2/m/x/manifests/{sha256(document)}"
                assert put(address, target, document, kind).status == 201
            assert put(address, "/v2/m/x/manifests/1", root, OCI_INDEX).status == 201
        about = hostile.config()
        large = [
            hostile.manifest_of(about, annotations={"a": f"{number}" + "x" * (4 * MIB - 2_000)})
            for number in range(PUSHES)
        ]
        with measured(agent, f"{PUSHES} manifests of 4 MiB side by side", show):
            statuses: list[int] = []

            def push(number: int) -> None:
                answer = put(address, f"/v2/m/x/manifests/{number}", large[number], OCI_MANIFEST)
                statuses.append(answer.status)
                assert answer.status != 429 or answer.getheader("Retry-After")

            together(PUSHES, push)
        show(f"statuses: { ({s: statuses.count(s) for s in statuses}) }")
        assert set(statuses) <= {201, 429}
        with measured(agent, f"{PUSHES} documents of 4 MiB of []", show):
            lists = b"[" + b"[]," * (4 * MIB // 3 - 2) + b"[]]"
            together(
                PUSHES,
                lambda _n: statuses.append(
                    put(address, "/v2/m/x/manifests/2", lists, OCI_MANIFEST).status
                ),
            )
        assert set(statuses) <= {201, 429, 400}
        with (
            measured(agent, f"{WIRES} connections that hold a body", show),
            contextlib.ExitStack() as held,
        ):
            wires = [held.enter_context(Wire(address)) for _ in range(WIRES)]
            size = 4 * MIB
            for number, wire in enumerate(wires):
                head = request(
                    "PUT", f"/v2/m/x/manifests/h{number}", [("Content-Length", str(size))]
                )
                wire.send(head)
                wire.pour(b"x" * 65536, 63, 0.5)
        with (
            measured(agent, f"{WIRES} slow readers of 4 MiB", show),
            contextlib.ExitStack() as held,
        ):
            wires = [held.enter_context(Wire(address)) for _ in range(WIRES)]
            for number, wire in enumerate(wires):
                wire.send(request("GET", f"/v2/m/x/manifests/{number % PUSHES}"))
            for wire in wires:
                wire.wait_begun()
            answer = put(address, "/v2/m/x/manifests/after", documents[0], OCI_MANIFEST)
            assert answer.status == 201
        show.check()
        assert agent.logged("error", "critical") == []


def test_an_archive_that_kills_the_agent_twice_is_rejected_until_it_changes(tmp_path):
    (tmp_path / "images").mkdir()
    agent = Agent(tmp_path / "images", tmp_path / "data", fault="import.before_commit=kill")
    path = agent.watched / "deadly.tar"
    hostile.write_tar(path, hostile.one_child_listed_often(2, 1))
    for _ in range(2):
        agent.launch()
        agent.wait_exit()
    agent.fault = None
    with agent:
        found = agent.wait_state(path, "imported", "rejected")
        assert found["state"] == "rejected"
        assert "died 2 times" in found["reason"]
        agent.restart()
        assert agent.wait_state(path, "imported", "rejected")["state"] == "rejected"
        path.touch()
        agent.wait_state(path, "imported")
