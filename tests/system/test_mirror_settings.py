"""What `airside mirror write` makes is read by real containerd of three versions.

`ctr images pull --hosts-dir` reads the files with the code that reads those of CRI's `config_path`.
"""

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airside.archive.sample import write_sample
from airside.containerd.client import Client
from airside.containerd.cri import Cri
from airside.core.errors import AirsideError
from support.agent import Agent
from support.command import airside
from support.containerd import Containerd
from support.containerd_config import Options

pytestmark = pytest.mark.system

NAME = "docker.io/airside/hello:1"


@pytest.fixture(scope="module")
def ctr(shared_containerd):
    """`ctr` of each version."""
    return shared_containerd.ctr


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """A running agent with the sample."""
    directory = tmp_path_factory.mktemp("agent")
    (directory / "images").mkdir()
    with Agent(directory / "images", directory / "data") as agent:
        archive = agent.watched / "hello.tar.zst"
        write_sample(archive)
        agent.wait_imported(archive)
        yield agent


def mirror(*args):
    done = airside("mirror", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Server6(ThreadingHTTPServer):
    """On the loopback address of IPv6."""

    address_family = socket.AF_INET6


@contextmanager
def upstream(server_class=ThreadingHTTPServer, address="127.0.0.1"):
    """A registry that lacks everything and remembers what it was asked; gives (address, asked)."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the name is the method

        def log_message(self, *_args):
            pass

    with server_class((address, 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"{'[::1]' if ':' in address else address}:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def pull(ctr, certs, name, *flags):
    """By the client's own code where there is another: that of 2.1 unpacks by overlayfs only."""
    local = ["--local"] if "--local " in ctr("images", "pull", "--help").stdout else []
    words = ["images", "pull", *local, "--hosts-dir", certs, "--snapshotter", "native", *flags]
    return ctr(*words, name)


@pytest.mark.parametrize("which", [["--registry", "docker.io"], ["--all"]], ids=" ".join)
def test_an_image_is_pulled_through_the_agent(ctr, agent, tmp_path, which):
    certs = tmp_path / "certs.d"
    mirror("write", *which, "--certs-dir", certs, "--data", agent.data)
    ctr("images", "rm", "--sync", NAME)
    pulled = pull(ctr, certs, NAME)
    assert pulled.returncode == 0, pulled.stderr
    assert agent.images()[NAME]["digest"] in ctr("images", "ls").stdout


def test_what_the_agent_lacks_is_asked_for_elsewhere_after_it(ctr, agent, tmp_path):
    """The file of somebody else with our host put in: his host is asked second, then his server."""
    certs = tmp_path / "certs.d"
    with upstream() as (other, asked):
        directory = certs / "docker.io"
        directory.mkdir(parents=True)
        text = f'server = "http://{other}/last"\n[host."http://{other}"]\n'
        (directory / "hosts.toml").write_text(text)
        mirror("write", "--all", "--certs-dir", certs, "--data", agent.data)
        ctr("images", "rm", "--sync", NAME)
        assert pull(ctr, certs, NAME).returncode == 0
        assert asked == []
        assert pull(ctr, certs, "docker.io/library/nothere:1").returncode != 0
        first = "/v2/library/nothere/manifests/1?ns=docker.io"
        assert asked[0] == first
        assert any(path.startswith("/last/v2/library/nothere/") for path in asked)
        mirror("remove", "--certs-dir", certs)
        assert (directory / "hosts.toml").read_text() == text
        asked.clear()
        assert pull(ctr, certs, "docker.io/library/nothere:1").returncode != 0
        assert asked[0] == first


def test_a_registry_without_a_directory_falls_back_to_itself(ctr, agent, tmp_path):
    """`_default` has no server: containerd then asks the registry that the name says."""
    certs = tmp_path / "certs.d"
    mirror("write", "--all", "--certs-dir", certs, "--data", agent.data)
    with upstream() as (other, asked):
        pulled = pull(ctr, certs, f"{other}/team/app:1", "--plain-http")
        assert pulled.returncode != 0
        assert asked[0].startswith("/v2/team/app/manifests/1")


def test_a_registry_with_a_port_has_its_directory(ctr, agent, tmp_path):
    certs = tmp_path / "certs.d"
    with upstream() as (other, asked):
        host, _, port = other.partition(":")
        written = certs / other
        for directory in (written, certs / f"{host}_{port}_"):
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "hosts.toml").write_text(f'[host."http://{other}/{directory.name}"]\n')
            mirror("write", "--registry", other, "--certs-dir", certs, "--data", agent.data)
            text = (directory / "hosts.toml").read_text()
            assert text.index(agent.registry) < text.index(f"{other}/{directory.name}")
            asked.clear()
            assert pull(ctr, certs, f"{other}/team/app:1").returncode != 0
            assert asked[0].startswith(f"/{directory.name}/v2/team/app/")


def test_the_agent_says_at_once_that_it_lacks_an_image(agent):
    seconds = []
    for number in range(5):
        started_at = time.monotonic()
        status, _ = agent.get(f"/v2/library/nothere/manifests/{number}?ns=docker.io")
        seconds.append(time.monotonic() - started_at)
        assert status == 404
    print(f"404 after {min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f} ms")


def test_a_mirror_that_is_away_does_not_hold_up_a_pull(ctr, tmp_path):
    """A closed port of this host is refused at once: what else there is is asked."""
    certs = tmp_path / "certs.d"
    with upstream() as (gone, _):
        pass
    with upstream() as (other, asked):
        directory = certs / "docker.io"
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(f'server = "http://{other}"\n')
        mirror("write", "--registry", "docker.io", "--address", gone, "--certs-dir", certs)
        started_at = time.monotonic()
        assert pull(ctr, certs, "docker.io/library/nothere:1").returncode != 0
        print(f"gave up after {time.monotonic() - started_at:.2f} s")
        assert asked


def test_an_ipv6_literal_is_written_only_where_this_containerd_reads_it(
    shared_containerd, ctr, tmp_path
):
    """1.6 and 1.7 would ignore the whole file, and ask neither us nor the site's own host."""
    certs = tmp_path / "certs.d"
    with upstream() as (site, asked), upstream(Server6, "::1") as (ours, asked_us):
        file = certs / "docker.io/hosts.toml"
        file.parent.mkdir(parents=True)
        file.write_text(text := f'server = "http://{site}"\n[host."http://{site}/first"]\n')
        data = ("--data", tmp_path / "data")
        args = ("--registry", "docker.io", "--address", ours, "--certs-dir", certs, *data)
        runtime = str(shared_containerd.socket)
        written = airside("mirror", "write", *args, AIRSIDE_RUNTIME=runtime)
        is_read = shared_containerd.version.startswith("2.")
        assert written.returncode == (0 if is_read else 1), written.stderr
        assert is_read or file.read_text() == text
        assert pull(ctr, certs, "docker.io/library/nothere:1").returncode != 0
        assert asked[0].startswith("/first/v2/library/nothere/")
        assert bool(asked_us) is is_read


@pytest.mark.parametrize("spelling", ["http://localhost:{port}", "http://127.0.0.1:{port}/v2/"])
def test_the_agent_in_another_spelling_is_asked_and_not_added_again(ctr, agent, tmp_path, spelling):
    file = tmp_path / "certs.d/docker.io/hosts.toml"
    file.parent.mkdir(parents=True)
    port = agent.registry.rpartition(":")[2]
    file.write_text(text := f'[host."{spelling.format(port=port)}"]\n')
    certs = tmp_path / "certs.d"
    said = mirror("write", "--registry", "docker.io", "--certs-dir", certs, "--data", agent.data)
    assert "unchanged" in said
    assert file.read_text() == text
    ctr("images", "rm", "--sync", NAME)
    assert pull(ctr, certs, NAME).returncode == 0


@pytest.mark.parametrize("server", [ThreadingHTTPServer, Server6])
def test_with_only_a_miss_is_over_when_the_agent_has_said_so(ctr, tmp_path, server):
    """It is asked once, by every version; the registry's own address, which is dead, never."""
    certs = tmp_path / "certs.d"
    at = "::1" if server is Server6 else "127.0.0.1"
    with upstream(server, at) as (ours, asked), upstream() as (site, asked_site):
        file = certs / "docker.io/hosts.toml"
        file.parent.mkdir(parents=True)
        file.write_text(text := f'server = "http://{site}"\n')
        args = ("--all", "--only", "--address", ours, "--data", tmp_path / "data")
        mirror("write", *args, "--certs-dir", certs)
        for name in ("docker.io/library/nothere", "dead.invalid/team/nothere"):
            asked.clear()
            pulled = pull(ctr, certs, f"{name}:1")
            assert pulled.returncode != 0
            assert pulled.stderr.rstrip().endswith("not found")
            host, _, path = name.partition("/")
            assert asked == [f"/v2/{path}/manifests/1?ns={host}"]
        assert asked_site == []
        mirror("remove", "--certs-dir", certs)
        assert file.read_text() == text
        assert list(certs.iterdir()) == [file.parent]


def test_with_only_the_hosts_of_others_are_asked_between(ctr, tmp_path):
    certs = tmp_path / "certs.d"
    with upstream() as (ours, asked), upstream() as (site, asked_site):
        file = certs / "docker.io/hosts.toml"
        file.parent.mkdir(parents=True)
        file.write_text(f'server = "http://{site}/last"\n[host."http://{site}/first"]\n')
        args = ("--all", "--only", "--address", ours, "--data", tmp_path / "data")
        said = mirror("write", *args, "--certs-dir", certs)
        assert f"note: {file}: http://{site}/first is still asked" in said
        assert pull(ctr, certs, "docker.io/library/nothere:1").returncode != 0
        assert len(asked) == 2
        assert [path.partition("/v2/")[0] for path in asked_site] == ["/first"]


def test_a_list_of_directories_that_cri_does_not_read_is_told(containerd_version, tmp_path):
    """2.1 takes `config_path` for the name of one directory, and logs nothing."""
    options = Options(hosts=("certs.d", "other"))
    made = Containerd(containerd_version, tmp_path / "c", options=options)
    with upstream() as (ours, asked), made as containerd:
        words = ("--address", ours, "--certs-dir", containerd.hosts)
        mirror("write", "--all", "--only", *words, "--data", tmp_path / "data")
        with Client.open(str(containerd.socket)) as client, pytest.raises(AirsideError):
            Cri(client.channel).pull("registry.invalid/team/nothere:1")
        told = airside(
            "doctor", "--json", "--runtime", containerd.socket, "--data", tmp_path / "data",
            AIRSIDE_LISTEN=ours,
        )  # fmt: skip
        found = {each["id"]: each for each in json.loads(told.stdout)["items"]}["containerd.mirror"]
        assert bool(asked) is (containerd.version != "2.1")
        assert found["severity"] == ("ok" if asked else "warning")
        assert asked or f'put config_path = "{containerd.hosts}"' in found["advice"]
