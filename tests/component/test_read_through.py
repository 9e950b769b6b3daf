"""The registry and what a container runtime holds: over HTTP, with runtimes that fail and hang."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from airside.containerd import read_through
from airside.containerd.client import Client
from airside.containerd.peer_check import is_peer
from airside.containerd.pull_records import PullRecords
from airside.containerd.read_through import PAUSE_SECONDS, ContainerdContent
from airside.core.errors import ContainerdError
from airside.core.host_root import HOST_ROOT
from airside.core.settings import Limits
from airside.oci.model import parse_document
from airside.oci.reference import Repository
from airside.ports.content import Connection
from airside.registry.rules.read_through import ReadThrough
from support.images import random_image
from support.memory import MemoryStore, MemoryView
from support.runtimes import FakeContainerd, Held, MemoryRuntime
from support.served import Served, served
from support.waiting import LIMIT_SECONDS, wait_until

HOME = Repository("docker.io", "library/app")
IMAGE, OURS = random_image("runtime", layer_bytes=3_000_000), random_image("ours")
LAYER = IMAGE.layers[0]
SHORT_SECONDS = 0.4
TAG, DIGEST = "/v2/app/manifests/1", f"/v2/app/manifests/{IMAGE.digest}"
BLOB = f"/v2/app/blobs/{LAYER.digest}"


@pytest.fixture(scope="module", autouse=True)
def _grpc_has_begun() -> None:
    """What gRPC keeps open for the process is not of the first test."""
    with closing(grpc.insecure_channel("unix:/nowhere")) as channel:
        call = channel.unary_unary("/none/None", _raw, _raw)
        with pytest.raises(grpc.RpcError):
            call(b"", timeout=1.0)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Sets how long a query waits: on a busy machine even what works takes longer than usual."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(read_through, "PATIENCE_SECONDS", seconds)

    set_to(LIMIT_SECONDS)
    return set_to


def _raw(message: bytes) -> bytes:
    return message


def held() -> Held:
    found = Held()
    for blob in IMAGE.blobs:
        found.add(blob.raw)
    found.images[f"{HOME}:1"] = IMAGE.digest
    return found


def ours() -> tuple[MemoryView, MemoryStore]:
    """An image of our own in the same repository, under the tag `ours`."""
    view, store = MemoryView(), MemoryStore()
    for blob in OURS.blobs:
        store.add(blob.raw)
    view.put(HOME, parse_document(OURS.manifest.raw, OURS.manifest.media_type, "ours"), "ours")
    return view, store


@contextmanager
def serving(runtime, policy="true") -> Iterator[tuple[Served, MemoryView]]:
    view, store = ours()
    with served(view, store, ReadThrough(lambda: [runtime], policy)) as found:
        yield found, view


@pytest.fixture(params=["memory", "directory", "calls"])
def runtime(request, tmp_path):
    """A runtime with one image: in memory, as files, and over gRPC only."""
    if request.param == "memory":
        yield MemoryRuntime(held())
        return
    root = tmp_path / "content" if request.param == "directory" else None
    fake = FakeContainerd(held(), tmp_path / "c.sock", root)
    if root is not None:
        fake.write_blobs()
    with _short(tmp_path), fake.serving(), closing(Client.open("c.sock")) as client:
        content = ContainerdContent(client, root, Limits())
        content.is_client = lambda _connection: False  # it is of this process
        yield content


@contextmanager
def _short(directory: Path) -> Iterator[None]:
    """A socket's path has 107 bytes at most."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def _same(served: Served, target: str, **headers: str) -> None:
    """HEAD says what GET does."""
    got, head = served.ask(target, "GET", **headers), served.ask(target, "HEAD", **headers)
    assert head.body == b""
    assert head.status == got.status
    for reply in (got, head):
        reply.headers.pop("Date")
    assert head.headers == got.headers


# --- what is served


def test_an_image_of_a_runtime_is_served_as_one_of_ours(runtime):
    with serving(runtime) as (registry, _view):
        for target in (TAG, DIGEST, f"{TAG}?ns=docker.io"):
            for _ in range(2):
                found = registry.ask(target)
                assert (found.status, found.body) == (200, IMAGE.manifest.raw)
                assert found.headers["Content-Type"] == IMAGE.manifest.media_type
                assert found.headers["Docker-Content-Digest"] == str(IMAGE.digest)
                assert found.headers["ETag"] == f'"{IMAGE.digest}"'
            _same(registry, target)
        for blob in IMAGE.blobs:
            target = f"/v2/app/blobs/{blob.digest}"
            found = registry.ask(target)
            assert (found.status, found.body) == (200, blob.raw)
            _same(registry, target)
        assert registry.ask("/v2/app/manifests/ours").body == OURS.manifest.raw


def test_ranges_and_conditions_hold_for_it_too(runtime):
    size = len(LAYER.raw)
    with serving(runtime) as (registry, _view):
        for asked, part in (("0-9", slice(0, 10)), ("1500000-", slice(1_500_000, None))):
            found = registry.ask(BLOB, Range=f"bytes={asked}")
            assert (found.status, found.body) == (206, LAYER.raw[part])
            assert found.headers["Content-Range"].endswith(f"/{size}")
        assert registry.ask(BLOB, Range="bytes=-7").body == LAYER.raw[-7:]
        past = registry.ask(BLOB, Range=f"bytes={size}-")
        assert (past.status, past.headers["Content-Range"]) == (416, f"bytes */{size}")
        for target, digest in ((TAG, IMAGE.digest), (DIGEST, IMAGE.digest), (BLOB, LAYER.digest)):
            for method in ("GET", "HEAD"):
                kept = registry.ask(target, method, If_None_Match=f'"{digest}"')
                assert (kept.status, kept.body) == (304, b"")
                assert registry.ask(target, method, If_Match='"other"').status == 412


def test_what_goes_and_comes_is_seen_at_once():
    runtime = MemoryRuntime(held())
    with serving(runtime) as (registry, view):
        assert registry.ask(TAG).status == 200
        del runtime.held.images[f"{HOME}:1"]
        for target in (TAG, DIGEST, BLOB):
            assert registry.ask(target).status == 404
            _same(registry, target)
        runtime.held.images[f"{HOME}:2"] = IMAGE.digest
        assert registry.ask("/v2/app/manifests/2").status == 200
        view.put(HOME, parse_document(OURS.manifest.raw, OURS.manifest.media_type, "x"), "2")
        assert registry.ask("/v2/app/manifests/2").body == OURS.manifest.raw


def test_a_tag_without_its_layers_and_what_is_in_quarantine_are_404_for_head_and_get(runtime):
    with serving(runtime) as (registry, view):
        view.quarantine(LAYER.digest)
        for target, status in ((TAG, 404), (BLOB, 404), (DIGEST, 200)):
            assert registry.ask(target).status == status
            _same(registry, target)


def test_lists_are_of_our_own():
    runtime = MemoryRuntime(held())
    runtime.held.images["docker.io/library/other:1"] = IMAGE.digest
    with serving(runtime) as (registry, _view):
        assert json.loads(registry.ask("/v2/app/tags/list").body)["tags"] == ["ours"]
        names = json.loads(registry.ask("/v2/_catalog").body)["repositories"]
        assert names == ["docker.io/library/app"]
        assert registry.ask("/v2/other/tags/list").status == 404
        assert registry.ask("/v2/other/manifests/1").status == 200
        assert registry.ask(f"/v2/app/referrers/{IMAGE.digest}").status == 200
    assert runtime.questions == 1


def test_what_is_ours_is_not_asked_for_elsewhere_and_nothing_without_a_runtime():
    runtime = MemoryRuntime(held())
    with serving(runtime) as (registry, _view):
        for target in ("/v2/app/manifests/ours", f"/v2/app/blobs/{OURS.config.digest}", "/v2/"):
            assert registry.ask(target).status == 200
        assert registry.ask("/v2/app/manifests/ours", "PUT").status == 405
    assert runtime.questions == 0
    with serving(runtime, policy="false") as (registry, _view):
        for target in (TAG, DIGEST, BLOB):
            assert registry.ask(target).status == 404
    assert runtime.questions == 0


def test_a_blob_that_shrinks_while_it_is_sent_cuts_the_connection():
    runtime = MemoryRuntime(held())
    with serving(runtime) as (registry, _view):
        found = runtime.blob(HOME, LAYER.digest)
        assert found is not None
        runtime.blob = lambda *_: type(found)(found.size_bytes + 1, found.open)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            registry.ask(BLOB)
    assert all(file.closed for file in runtime.files)


# --- runtimes that fail


def test_a_runtime_that_is_away_is_a_404_and_ours_is_served():
    runtime = MemoryRuntime(held())
    runtime.error = ContainerdError("away", status="UNAVAILABLE")
    with serving(runtime) as (registry, _view):
        for target in (TAG, DIGEST, BLOB):
            assert registry.ask(target).status == 404
            _same(registry, target)
        assert registry.ask("/v2/app/manifests/ours").status == 200


@pytest.fixture
def silent(tmp_path, patience):
    """The content of what takes connections and never says a word."""
    patience(SHORT_SECONDS)
    with _short(tmp_path), closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("c.sock")
        listening.listen(64)
        with closing(Client.open("c.sock")) as client:
            yield ContainerdContent(client, None, Limits())


@pytest.fixture
def hanging(tmp_path, patience):
    """A containerd that answered once and then hangs, and its content."""
    fake = FakeContainerd(held(), tmp_path / "c.sock")
    with _short(tmp_path), fake.serving(), closing(Client.open("c.sock")) as client:
        content = ContainerdContent(client, None, Limits())
        content.is_client = lambda _connection: False
        assert content.tag(HOME, "1") is not None
        fake.answers.clear()
        patience(SHORT_SECONDS)
        yield fake, content


def stop_clock(content: ContainerdContent, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Stop the breaker's clock, so that its pause never ends; gives what it answers from now on."""
    allows, told, now = content._breaker.allows, [], time.monotonic()

    def allowed() -> bool:
        told.append(allows())
        return told[-1]

    monkeypatch.setattr(content._breaker, "_clock", lambda: now)
    monkeypatch.setattr(content, "_breaker", _Told(content._breaker, allowed))
    return told


class _Told:
    def __init__(self, breaker, allows):
        self.allows, self.failed, self.worked = allows, breaker.failed, breaker.worked


def test_a_runtime_that_says_nothing_at_all_delays_no_answer_for_long(silent, monkeypatch):
    """One question waits for it; the following are not put to it."""
    tried = stop_clock(silent, monkeypatch)
    with serving(silent) as (registry, _view):
        for target in (TAG, DIGEST, BLOB) * 5:
            assert registry.ask(target).status == 404
        assert tried.count(True) == 1
        assert registry.ask("/v2/app/manifests/ours").status == 200


def test_a_runtime_that_hangs_delays_one_404_and_the_following_are_at_once(
    hanging, caplog, monkeypatch
):
    fake, content = hanging
    stop_clock(content, monkeypatch)
    with serving(content) as (registry, _view):
        started, before = time.monotonic(), len(fake.calls)
        assert registry.ask(f"{TAG}?ns=docker.io").status == 404
        assert time.monotonic() - started >= SHORT_SECONDS
        assert len(fake.calls) == before + 1
        for target in (TAG, DIGEST, BLOB) * 5:
            assert registry.ask(target).status == 404
        assert len(fake.calls) == before + 1
        assert registry.ask("/v2/app/manifests/ours").status == 200
    told = [r for r in caplog.records if "does not answer" in r.getMessage()]
    assert [r.levelname for r in told if r.levelname == "WARNING"] == ["WARNING"]


def test_many_at_once_wait_once_for_a_runtime_that_hangs(hanging, monkeypatch):
    fake, content = hanging
    tried = stop_clock(content, monkeypatch)
    with serving(content) as (registry, _view):
        targets = [f"/v2/app/manifests/{n}?ns=docker.io" for n in range(20)]
        with ThreadPoolExecutor(len(targets)) as pool:
            assert {r.status for r in pool.map(registry.ask, targets)} == {404}
        assert tried.count(True) <= len(targets)
        calls = len(fake.calls)
        assert {registry.ask(target).status for target in targets} == {404}
        assert len(fake.calls) == calls  # nobody waits for it any more


def test_a_runtime_that_hangs_while_a_blob_is_sent_cuts_the_connection(
    hanging, patience, monkeypatch
):
    monkeypatch.setattr(read_through, "CHUNK_SECONDS", 0.2)
    fake, content = hanging
    patience(LIMIT_SECONDS)
    fake.answers.set()
    found = content.blob(HOME, LAYER.digest)
    assert found is not None
    content.blob = lambda *_: found
    fake.answers.clear()
    with (
        serving(content) as (registry, _view),
        pytest.raises((http.client.IncompleteRead, ConnectionResetError)),
    ):
        registry.ask(BLOB)


def test_a_runtime_that_answers_again_is_asked_again(hanging, patience, monkeypatch):
    fake, content = hanging
    clock = [time.monotonic()]
    monkeypatch.setattr(content._breaker, "_clock", lambda: clock[0])
    with serving(content) as (registry, _view):
        assert registry.ask(TAG).status == 404
        fake.answers.set()
        patience(LIMIT_SECONDS)
        assert registry.ask(TAG).status == 404
        clock[0] += PAUSE_SECONDS
        assert registry.ask(TAG).status == 200
        assert registry.ask(BLOB).body == LAYER.raw


def test_a_socket_that_is_made_anew_is_connected_to(tmp_path):
    with _short(tmp_path), closing(Client.open("c.sock")) as client:
        content = ContainerdContent(client, None, Limits())
        content.is_client = lambda _connection: False
        with serving(content) as (registry, _view):
            assert registry.ask(TAG).status == 404
            with FakeContainerd(held(), tmp_path / "c.sock").serving():
                wait_until(lambda: registry.ask(TAG).status == 200)


def test_a_containerd_that_greets_late_is_connected_to_at_the_first_attempt(tmp_path):
    """As on a busy machine: it is not taken for one that is away."""

    def pass_on(here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):  # gRPC may leave with something unread: a reset
            while data := here.recv(1 << 16):
                there.sendall(data)
        with suppress(OSError):
            there.shutdown(socket.SHUT_WR)

    def greet_late(listening: socket.socket) -> None:
        client, _ = listening.accept()
        time.sleep(0.5)
        with closing(client), closing(socket.socket(socket.AF_UNIX)) as behind:
            client.settimeout(LIMIT_SECONDS)
            behind.settimeout(LIMIT_SECONDS)
            behind.connect("behind.sock")
            with ThreadPoolExecutor(1) as pool:
                pool.submit(pass_on, behind, client)
                pass_on(client, behind)

    with (
        _short(tmp_path),
        FakeContainerd(held(), tmp_path / "behind.sock").serving(),
        closing(socket.socket(socket.AF_UNIX)) as listening,
        ThreadPoolExecutor(1) as pool,
    ):
        listening.bind("c.sock")
        listening.listen()
        listening.settimeout(LIMIT_SECONDS)
        greeted = pool.submit(greet_late, listening)
        with closing(Client.open("c.sock")) as client:
            assert client.images.get(f"{HOME}:1") is not None
        greeted.result(LIMIT_SECONDS)


# --- what came with a secret


def test_by_default_only_what_kubelet_recorded_as_open_is_served(runtime, tmp_path, monkeypatch):
    """Fails on the code of before, which served every image, by tag and by digest."""
    monkeypatch.setenv(HOST_ROOT, str(tmp_path / "host"))
    records = tmp_path / "host" / "var/lib/kubelet/image_manager/pulled"
    records.mkdir(parents=True)
    now = [0.0]
    opened = PullRecords(lambda: now[0]).opened
    view, store = ours()
    targets = [f"manifests/{tag}" for tag in ("1", IMAGE.digest)]
    targets += [f"blobs/{blob.digest}" for blob in IMAGE.blobs]
    targets = [f"/v2/{HOME.path}/{target}?ns={HOME.host}" for target in targets]
    secret = {"kubernetesSecrets": [{"uid": "1", "namespace": "a", "name": "b"}]}
    free = {"nodePodsAccessible": True}

    def record(**mapping):
        value = {"imageRef": str(IMAGE.config.digest), "credentialMapping": mapping}
        (records / "sha256-x").write_text(json.dumps(value))

    with served(view, store, ReadThrough(lambda: [runtime], opened=opened)) as registry:

        def statuses():
            now[0] += 60
            return {registry.ask(t, method).status for t in targets for method in ("GET", "HEAD")}

        assert statuses() == {404}
        for credentials, expected in ((secret, 404), (free, 200), ({**free, **secret}, 404)):
            record(**{str(HOME): credentials})
            assert statuses() == {expected}
        record(**{"another/repository": free})
        assert statuses() == {404}
        record(**{str(HOME): free})
        monkeypatch.setattr(runtime, "is_client", lambda _connection: True)
        assert statuses() == {404}  # to the containerd that holds it


# --- who asks


def test_the_process_that_listens_on_the_socket_is_recognised_by_its_connection(tmp_path):
    program = (
        "import socket, sys\n"
        "c = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "print(*c.getsockname(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with (
        _short(tmp_path),
        closing(socket.socket(socket.AF_UNIX)) as listening,
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(socket.create_connection(server.getsockname())) as own,
    ):
        listening.bind("c.sock")
        listening.listen()
        here = server.getsockname()
        assert is_peer("c.sock", Connection(own.getsockname(), here))
        assert not is_peer("c.sock", Connection(("127.0.0.1", 1), here))
        command = [sys.executable, "-c", program, here[0], str(here[1])]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with other:
            assert other.stdout is not None
            host, port = other.stdout.readline().split()
            assert not is_peer("c.sock", Connection((host, int(port)), here))
            other.communicate()
        listening.close()
        Path("c.sock").unlink()
        assert is_peer("c.sock", Connection(own.getsockname(), here))
