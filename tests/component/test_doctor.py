"""What the doctor sees of directories, files, sockets and processes; the command with stand-ins."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from asyncinotify import Inotify, Mask

from airside.cli.main import main
from airside.containerd.kubelet_pulls import KubeletPulls, PullPolicy
from airside.core.errors import ContainerdError, StoreError
from airside.diagnostics.doctor.facts import Reach
from airside.diagnostics.doctor.gather import trial
from airside.diagnostics.doctor.gather.bounded import Look
from airside.diagnostics.doctor.gather.configs import config_paths, read_configs
from airside.diagnostics.doctor.gather.hosts import look_at_host
from airside.diagnostics.doctor.gather.kubelets import look_at_kubelet
from airside.diagnostics.doctor.gather.misses import reach_all
from airside.diagnostics.doctor.gather.registries import ask_registry
from airside.diagnostics.doctor.gather.sockets import probe
from airside.diagnostics.doctor.gather.stores import look_at_directories, look_at_store
from airside.diagnostics.doctor.gather.trial import foreign_names, try_adoption
from airside.diagnostics.doctor.gather.volumes import volume_of
from airside.store.data_lock import lock_holder

DOCS = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
HUNG_SECONDS = 3.0
"""What a busy machine may add."""


@contextmanager
def listener(path, *, backlog=8):
    """A socket that takes connections and never answers."""
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(path))
        server.listen(backlog)
        yield path


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """The command; gives its exit code and its findings by id."""
    monkeypatch.setenv("AIRSIDE_IMAGES", str(tmp_path / "images"))

    def run(*args):
        code = main(["doctor", "--data", str(tmp_path / "data"), "--json", *map(str, args)])
        value = json.loads(capsys.readouterr().out)
        assert value["schema"] == 1
        return code, {item["id"]: item for item in value["items"]}

    return run


# looks


def test_a_look_that_fails_tells_why_and_ends_nothing():
    def refused():
        raise PermissionError(13, "Permission denied", "/secret")

    def broken():
        return {}["key"]

    def ours():
        raise StoreError("the store is away")

    looks = [Look("x", refused), Look("y", broken), Look("z", ours)]
    assert [look.wait() for look in looks] == [None, None, None]
    assert [look.unseen[0].reason for look in looks] == [
        "/secret: Permission denied",
        "KeyError: 'key'",
        "the store is away",
    ]


def test_a_look_that_hangs_is_left_after_its_time():
    end = threading.Event()
    look = Look("a dead disk", end.wait, seconds=0.05)
    assert look.wait() is None
    assert look.unseen[0].reason == "timed out"
    end.set()
    look.settle()


def test_a_look_gives_what_it_found():
    look = Look("x", lambda: 7)
    assert (look.wait(), look.unseen) == (7, ())


# sockets


def test_what_is_at_a_socket_is_told_without_a_word(tmp_path):
    file = tmp_path / "file"
    file.touch()
    stale = tmp_path / "stale"
    with listener(stale):
        pass
    assert probe(str(tmp_path / "none")).state == "absent"
    assert probe(str(file / "below")).state == "absent"
    assert probe(str(file)).state == "no-socket"
    assert probe(str(stale)).state == "refused"
    with listener(tmp_path / "s") as path:
        assert (probe(str(path)).state, probe(str(path)).pid) == ("answers", os.getpid())


def test_a_socket_with_a_full_queue_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr("airside.diagnostics.doctor.gather.sockets.ANSWER_SECONDS", 0.05)
    with listener(tmp_path / "s", backlog=0) as path:
        waiting = []
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            client.connect_ex(str(path))
        assert probe(str(path)).state == "silent"
        for client in waiting:
            client.close()


# the data directory and watched ones


def test_a_data_directory_is_seen_as_it_is(tmp_path):
    data = tmp_path / "data"
    absent = look_at_store(data)
    assert (absent.exists, absent.writable, absent.newest_at) == (False, True, None)
    (data / "oci/blobs/sha256").mkdir(parents=True)
    (data / "format").write_text("7\n")
    os.utime(data / "oci/blobs/sha256", (2_000_000_000, 2_000_000_000))
    seen = look_at_store(data)
    assert (seen.exists, seen.format, seen.newest_at) == (True, 7, 2_000_000_000.0)
    assert seen.volume.total_bytes >= seen.volume.free_bytes > 0
    assert seen.holder is None


def test_the_holder_of_the_lock_is_seen_without_taking_it(tmp_path):
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    with path.open("w") as file:
        assert lock_holder(path) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(path) == os.getpid()


def test_watched_directories_are_seen_as_they_are(tmp_path):
    file = tmp_path / "file"
    file.touch()
    paths = (tmp_path, tmp_path / "none", file)
    here, absent, wrong = look_at_directories(paths)
    assert (here.sight, here.is_directory, here.readable, here.writable) == ("visible", *[True] * 3)
    assert here.volume is not None
    assert here.volume.total_bytes == volume_of(tmp_path).total_bytes
    assert absent.sight == "absent"
    assert (wrong.sight, wrong.is_directory) == ("visible", False)


def test_a_path_that_is_not_there_lies_where_its_parent_does(tmp_path):
    assert volume_of(tmp_path / "a/b/c").point == volume_of(tmp_path).point


# the host


def test_the_host_is_seen_whole():
    host = look_at_host(None)
    assert host.uid == os.geteuid()
    assert abs(host.now - time.time()) < 60
    assert host.synchronized in {True, False}
    assert host.inotify.max_watches > 0
    assert host.open_files is None or host.open_files > 0
    assert host.selinux in {"off", "permissive", "enforcing"}
    assert host.has_overlay in {True, False, None}


def test_inotify_of_our_own_is_counted(tmp_path):
    before = look_at_host(None).inotify
    with Inotify() as inotify:
        inotify.add_watch(tmp_path, Mask.CREATE)
        after = look_at_host(None).inotify
    assert after.instances >= before.instances + 1 or after.instances > 0
    assert after.watches > 0


# what a missing image costs


def test_what_is_asked_next_is_reached_or_not_all_at_once():
    end = threading.Event()

    def connect(host, port):
        asked.append((host, port))
        if host == "slow.example":
            end.wait()
        if host == "dead.example":
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        if host == "closed.example":
            raise ConnectionRefusedError(111, "Connection refused")

    asked = []
    addresses = ["https://a.example", "http://b.example", "c.example:5000", "https://dead.example"]
    addresses += ["https://closed.example", "http://[::1]:5000/v2", "https://:x"]
    found = reach_all(addresses, connect)
    assert [found[each].reason for each in addresses[:3]] == ["", "", ""]
    assert found["https://dead.example"].reason.startswith("no address: Temporary")
    assert found["https://closed.example"].reason == "Connection refused"
    assert found["https://:x"].reason
    assert {("a.example", 443), ("b.example", 80), ("c.example", 5000), ("::1", 5000)} <= {*asked}
    slow = reach_all(["https://slow.example"], connect, seconds=0.01)
    assert slow == {"https://slow.example": Reach(None, "no answer")}
    end.set()


def test_a_registry_that_is_there_is_reached_without_a_word():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(10)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert reach_all([address])[address].reason == ""
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""


# kubelet


def write(system, name, text):
    path = system / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_host_without_kubelet_has_none(tmp_path):
    found = look_at_kubelet(tmp_path, tmp_path)
    assert not found.present
    assert (found.read, found.unread, found.pulls, found.always_pull) == (
        (),
        (),
        KubeletPulls(),
        (),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("var/lib/kubelet/config.yaml", "imagePullCredentialsVerificationPolicy: AlwaysVerify\n"),
        (
            "var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00-x.conf",
            'imagePullCredentialsVerificationPolicy: "AlwaysVerify"\n',
        ),
        (
            "etc/kubernetes/kubelet/config.json",
            '{"imagePullCredentialsVerificationPolicy": "AlwaysVerify"}',
        ),
    ],
)
def test_a_policy_that_asks_the_registry_is_found(tmp_path, name, text):
    path = write(tmp_path, name, text)
    found = look_at_kubelet(tmp_path, tmp_path)
    assert found.present or name.startswith("etc/kubernetes")
    assert found.pulls.policy == PullPolicy("AlwaysVerify", (), Path(path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "etc/kubernetes/manifests/kube-apiserver.yaml",
            "    - --enable-admission-plugins=NodeRestriction,AlwaysPullImages\n",
        ),
        (
            "etc/rancher/k3s/config.yaml",
            "kube-apiserver-arg:\n- enable-admission-plugins=AlwaysPullImages\n",
        ),
        ("etc/rancher/rke2/config.yaml.d/1.yaml", "enable-admission-plugins: [AlwaysPullImages]\n"),
        (
            "var/snap/microk8s/current/args/kube-apiserver",
            "--enable-admission-plugins=AlwaysPullImages",
        ),
        (
            "etc/systemd/system/k3s.service",
            "ExecStart=k3s server --kube-apiserver-arg=enable-admission-plugins=AlwaysPullImages\n",
        ),
    ],
)
def test_always_pull_images_is_found(tmp_path, name, text):
    path = write(tmp_path, name, text)
    assert look_at_kubelet(tmp_path, tmp_path).always_pull == (path,)


@pytest.mark.parametrize(
    "text", ["# AlwaysPullImages\n", "- --disable-admission-plugins=AlwaysPullImages\n", "x: y\n"]
)
def test_always_pull_images_that_is_off_is_not_found(tmp_path, text):
    write(tmp_path, "etc/kubernetes/manifests/kube-apiserver.yaml", text)
    found = look_at_kubelet(tmp_path, tmp_path)
    assert (found.always_pull, found.has_api_server) == ((), True)


# containerd's configuration


def test_the_configuration_is_that_of_the_command_line(monkeypatch):
    monkeypatch.delenv("AIRSIDE_HOST_ROOT")
    assert config_paths(["containerd", "--config", "/a"], "containerd") == (Path("/a"),)
    assert config_paths(["containerd", "-c", "/a"], "k3s") == (Path("/a"),)
    assert config_paths(["containerd", "--config=/a"], "containerd") == (Path("/a"),)
    assert config_paths(["containerd"], "k3s") == (Path("/etc/containerd/config.toml"),)
    assert config_paths([], "containerd") == (Path("/etc/containerd/config.toml"),)
    assert all("rancher" in str(path) for path in config_paths([], "k3s"))


CLASSIC = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "p:1"
[plugins."io.containerd.grpc.v1.cri".containerd]
discard_unpacked_layers = true
"""
MODERN = """
version = 3
[plugins."io.containerd.cri.v1.images"]
discard_unpacked_layers = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "p:1"
"""
FIRST = """
[plugins.cri]
sandbox_image = "p:1"
[plugins.cri.containerd]
discard_unpacked_layers = true
"""


@pytest.mark.parametrize("text", [CLASSIC, MODERN, FIRST])
def test_all_forms_of_the_configuration_are_read(tmp_path, text):
    path = Path(write(tmp_path, "config.toml", text))
    found = read_configs([path])
    assert (found.discard, found.sandbox, found.unread) == (True, "p:1", "")


def test_what_is_imported_counts_over_what_imports_it(tmp_path):
    head = 'version = 3\nimports = ["conf.d/*.toml"]\n'
    table = '[plugins."io.containerd.cri.v1.images"]\ndiscard_unpacked_layers = {}\n'
    path = Path(write(tmp_path, "config.toml", head + table.format("true")))
    write(tmp_path, "conf.d/a.toml", "version = 3\n" + table.format("false"))
    write(tmp_path, "conf.d/b.toml", f'imports = ["{path}", "/none.toml"]\n')  # a circle
    write(tmp_path, "conf.d/c.toml", "no TOML")
    assert read_configs([path]).discard is False


# the registry


def test_a_registry_is_asked_for_its_status():
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/v2/" else 404)
            self.end_headers()

        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        assert ask_registry(address) == (200, "")
        server.shutdown()
        thread.join()
    answer, reason = ask_registry(address)
    assert answer is None
    assert "refused" in reason
    assert ask_registry("nonsense")[0] is None


# the trial


class Backend:
    """A containerd as far as the trial goes. `fails`: calls that raise, by name."""

    def __init__(self, root, *, takes=True, collects=True, fails=()):
        self.root, self.takes, self.collects, self.fails = root, takes, collects, fails
        self.leases, self.blobs, self.seen = set(), set(), []

    @property
    def client(self):
        return SimpleNamespace(
            leases=SimpleNamespace(create=self.create_lease, delete=self.delete_lease),
            content=SimpleNamespace(adopt=self.adopt_blob, abort=self.abort_write, info=self.blob),
        )

    def _may_fail(self, name):
        if name in self.fails:
            raise ContainerdError(f"{name} failed", status="UNAVAILABLE")

    def create_lease(self, lease, *, seconds):
        self._may_fail("create_lease")
        assert seconds <= 60
        self.leases.add(lease)

    def adopt_blob(self, _key, digest, size_bytes, _labels, lease):
        self._may_fail("adopt_blob")
        assert lease in self.leases
        assert [p.name for p in self.root.glob("blobs/sha256/*")] == [digest.hex]
        path = self.root / "blobs/sha256" / digest.hex
        assert path.stat().st_size == size_bytes
        self.seen.append(path.stat().st_nlink)
        if not self.takes:
            raise ContainerdError("current offset 0", status="OUT_OF_RANGE")
        self.blobs.add(digest)

    def abort_write(self, _key):
        self._may_fail("abort_write")

    def blob(self, digest):
        return digest if digest in self.blobs else None

    def delete_lease(self, lease, *, sync):
        self._may_fail("delete_lease")
        assert sync
        self.leases.discard(lease)
        for digest in self.blobs:
            if self.collects:
                (self.root / "blobs/sha256" / digest.hex).unlink()
        self.blobs.clear()


@pytest.fixture
def places(tmp_path):
    """A data directory's ingest, and a content root."""
    ingest, root = tmp_path / "data/ingest", tmp_path / "content"
    ingest.mkdir(parents=True)
    root.mkdir()
    yield ingest, root
    assert not list(ingest.iterdir())
    assert sorted(p.name for p in root.rglob("*")) in ([], ["blobs", "sha256"])


def test_a_file_goes_in_by_a_link_and_out_again(places):
    backend = Backend(places[1])
    found = try_adoption(backend.client, *places)
    assert (found.way, found.adopted, found.collected) == ("link", True, True)
    assert backend.seen == [2]


def test_where_no_link_goes_a_copy_is_tried(places, monkeypatch):
    def refuse(*_args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(trial.os, "link", refuse)
    found = try_adoption(Backend(places[1]).client, *places)
    assert (found.way, found.no_link) == ("copy", "Invalid cross-device link")
    assert found.adopted


def test_a_containerd_that_takes_nothing_is_told(places):
    backend = Backend(places[1], takes=False)
    found = try_adoption(backend.client, *places)
    assert (found.way, found.adopted, found.reason) == ("link", False, "current offset 0")
    assert len(backend.seen) == 3


def test_a_collection_that_deletes_no_files_is_told(places):
    assert try_adoption(Backend(places[1], collects=False).client, *places).collected is False


@pytest.mark.parametrize("name", ["create_lease", "adopt_blob"])
def test_a_containerd_that_goes_away_leaves_nothing(places, name):
    found = try_adoption(Backend(places[1], fails={name}).client, *places)
    assert (found.adopted, found.reason) == (False, f"{name} failed")


def test_an_end_of_the_lease_that_fails_leaves_what_containerd_knows(places):
    backend = Backend(places[1], fails={"delete_lease"})
    found = try_adoption(backend.client, *places)
    assert (found.adopted, found.collected) == (True, None)
    [digest] = backend.blobs
    (places[1] / "blobs/sha256" / digest.hex).unlink()  # only here: else containerd would miss it


def test_a_directory_that_can_not_be_written_is_told(places, tmp_path):
    (tmp_path / "file").touch()
    found = try_adoption(Backend(places[1]).client, places[0], tmp_path / "file/content")
    assert "Not a directory" in found.error
    shutil.rmtree(places[0])
    assert "No such file" in try_adoption(Backend(places[1]).client, *places).error
    places[0].mkdir()


def test_names_that_are_no_digests_are_found(tmp_path):
    for name in ("sha256/" + "a" * 64, "sha512/" + "b" * 128):
        write(tmp_path, f"blobs/{name}", "")
    assert foreign_names(tmp_path) == ()
    write(tmp_path, "blobs/sha256/.tmp-1", "")
    assert foreign_names(tmp_path) == ("sha256/.tmp-1",)


# the command


def test_without_containerd_it_says_how_images_are_pulled(run, tmp_path):
    (tmp_path / "images").mkdir()
    code, found = run("--runtime", "none")
    assert code == 0
    assert found["containerd"]["severity"] == "note"
    assert "docker pull 127.0.0.1:5050/NAME" in found["containerd"]["advice"]
    assert found["agent"]["severity"] == "note"
    assert not any(name.startswith("containerd.") for name in found)


def test_a_socket_that_is_not_there_is_a_problem(run, tmp_path):
    code, found = run("--runtime", tmp_path / "none")
    assert code == 1
    assert found["containerd.socket"]["severity"] == "problem"
    assert found["containerd.socket"]["subject"] == str(tmp_path / "none")


def test_a_socket_that_hangs_holds_nothing_up(run, tmp_path):
    with listener(tmp_path / "a") as first, listener(tmp_path / "b") as second:
        code, found = run("--runtime", first, "--runtime", second)
    assert code == 1
    assert "does not answer" in found["containerd.socket"]["found"]


def test_something_else_at_the_socket_is_told(run, tmp_path):
    """As Docker's: it speaks another HTTP."""

    def answer():
        for _ in range(8):  # gRPC tries again
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.settimeout(HUNG_SECONDS)
        thread = threading.Thread(target=answer)
        thread.start()
        code, found = run("--runtime", tmp_path / "s")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert code == 1
    assert found["containerd.socket"]["severity"] == "problem"


def test_warnings_count_where_strict(run):
    assert run("--runtime", "none")[0] == 0  # the watched directory is not there: a warning
    code, found = run("--runtime", "none", "--strict")
    assert found["images.directory"]["severity"] == "warning"
    assert code == 1


def test_an_agent_that_hangs_is_a_problem(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "images").mkdir()
    with listener(tmp_path / "data/airside.sock"):
        code, found = run("--runtime", "none")
    assert code == 1
    assert found["agent"]["severity"] == "problem"


def test_text_has_a_row_for_each_finding_and_a_summary(capsys, tmp_path):
    main(["doctor", "--data", str(tmp_path / "data"), "--runtime", "none"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["SEVERITY", "CHECK", "FOUND", "WHAT", "TO", "DO"]
    assert any(line.startswith("note      containerd ") for line in lines)
    assert re.fullmatch(r"0 problems, \d warnings?, \d notes?; \d+ ok", lines[-1])


def test_every_finding_is_documented():
    source = Path(__file__).parents[2] / "src/airside/diagnostics/doctor/judge"
    text = "".join(path.read_text() for path in source.glob("*.py"))
    prefixes = "agent|registry|containerd|data|images|kubelet|doctor|host"
    ids = set(re.findall(rf'"((?:{prefixes})\.[a-z-]+)"', text))
    ids |= {"agent", "archives", "registry", "containerd"}
    ids |= {"host.inotify-watches", "host.inotify-instances"}
    section = DOCS.split("\n## doctor\n")[1].split("\n## ")[0]
    rows = section.split("| check | |")[1].splitlines()
    told = {name for row in rows if row for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert told == ids
    assert len(ids) > 25
