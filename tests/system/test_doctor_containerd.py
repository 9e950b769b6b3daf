"""`airside doctor` on real containerd of three versions; by root and by others; with an agent."""

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airside.archive.sample import SAMPLE_NAME, write_sample
from support.agent import Agent
from support.command import airside
from support.containerd import Containerd, on_one
from support.containerd_config import Options
from support.kubelet import import_pause

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare", "mount")]

NOBODY = 65534
AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    # it may read our code wherever that lies, and write nothing
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
)
PROGRAMS = ("containerd.version", "containerd.gunzip", "containerd.erofs")
"""What is told of Debian's programs rather than of how they are set up."""

Findings = dict[str, dict[str, Any]]


def doctor(*words: object, before: tuple[str, ...] = ()) -> tuple[int, Findings]:
    """Run the command; gives its exit code and its findings by id."""
    done = airside("doctor", "--json", *words, before=before, AIRSIDE_MIN_FREE_BYTES="0")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    return done.returncode, {item["id"]: item for item in found["items"]}


def severities(found: Findings, prefix: str) -> dict[str, str]:
    return {
        name: item["severity"]
        for name, item in found.items()
        if name.startswith(prefix) and name not in PROGRAMS
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as an agent leaves it, on the file system of containerd."""
    (tmp_path / "data/ingest").mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture
def made(containerd_version: str, tmp_path: Path) -> Iterator[Callable[..., Containerd]]:
    """Makes a running containerd with options."""
    running: list[Containerd] = []

    def make(**options: Any) -> Containerd:
        containerd = Containerd(
            containerd_version, tmp_path / "containerd", options=Options(**options)
        )
        running.append(containerd.start())
        return containerd

    yield make
    for containerd in running:
        containerd.close()


def held(containerd: Containerd) -> tuple[list[str], str, str, list[str]]:
    """What of a trial could be left: files, leases, content, running writes."""
    files = [str(path) for path in containerd.content_root.rglob("*") if path.is_file()]
    return (
        sorted(files),
        containerd.did("leases", "ls", "-q"),
        containerd.did("content", "ls", "-q"),
        sorted(path.name for path in containerd.content_root.iterdir()),
    )


def test_a_containerd_that_is_well_has_nothing_wrong_and_nothing_is_left(
    containerd: Containerd, data: Path
) -> None:
    import_pause(containerd)
    containerd.collect()  # the doctor has it collect too
    before = held(containerd)
    code, found = doctor("--data", data, "--runtime", containerd.socket)
    assert held(containerd) == before
    assert not list((data / "ingest").iterdir())
    assert code == 0
    assert severities(found, "containerd.") == {
        "containerd.socket": "ok",
        "containerd.cri": "ok",
        "containerd.discard": "ok",
        "containerd.sandbox": "ok",
        "containerd.snapshotter": "ok",
        "containerd.sharing": "ok",
        "containerd.link": "ok",
        "containerd.collection": "ok",
        "containerd.mirror": "warning",
    }
    knows_pins = containerd.version != "1.6"
    assert found["containerd.version"]["severity"] == ("ok" if knows_pins else "warning")
    assert containerd.options.snapshotter in found["containerd.snapshotter"]["found"]
    assert containerd.options.sandbox_image in found["containerd.sandbox"]["found"]
    assert containerd.version in found["containerd.socket"]["found"]


def test_an_empty_containerd_lacks_its_sandbox_image(containerd: Containerd, data: Path) -> None:
    code, found = doctor("--data", data, "--runtime", containerd.socket)
    assert found["containerd.link"]["severity"] == "ok"
    assert found["containerd.sandbox"]["severity"] == "note"  # there is no kubelet
    assert containerd.options.sandbox_image in found["containerd.sandbox"]["advice"]
    assert code == 0
    assert not list(containerd.content_root.glob("blobs/*/*"))


@on_one("1.7")
def test_what_is_set_otherwise_is_told(made: Callable[..., Containerd], data: Path) -> None:
    containerd = made(sharing="isolated", discard_unpacked_layers=True)
    _, found = doctor("--data", data, "--runtime", containerd.socket)
    assert severities(found, "containerd.")["containerd.sharing"] == "warning"
    assert found["containerd.discard"]["severity"] == "warning"
    assert found["containerd.link"]["severity"] == "note"
    assert not list(containerd.content_root.glob("blobs/*/*"))
    assert containerd.did("leases", "ls", "-q") == ""


@on_one("2.1")
def test_a_containerd_without_cri_is_told(made: Callable[..., Containerd], data: Path) -> None:
    containerd = made(cri=False)
    code, found = doctor("--data", data, "--runtime", containerd.socket)
    assert code == 0
    assert found["containerd.cri"]["severity"] == "note"
    assert found["containerd.link"]["severity"] == "ok"
    assert "containerd.sandbox" not in found
    assert "containerd.mirror" not in found


@on_one("1.6")
def test_a_snapshotter_that_is_not_there_is_a_problem(
    containerd: Containerd, data: Path, tmp_path: Path
) -> None:
    config = tmp_path / "airside.toml"
    config.write_text('snapshotter = "stargz"\n')
    code, found = doctor("--data", data, "--config", config, "--runtime", containerd.socket)
    assert code == 1
    assert found["containerd.snapshotter"]["severity"] == "problem"


@on_one("1.7")
def test_another_file_system_means_copies(containerd: Containerd) -> None:
    with tempfile.TemporaryDirectory(prefix="airside-doctor-", dir="/dev/shm") as memory:
        data = Path(memory, "data")
        (data / "ingest").mkdir(parents=True)
        _, found = doctor("--data", data, "--runtime", containerd.socket)
    assert found["data.file-system"]["severity"] == "warning"
    assert found["containerd.link"]["severity"] == "warning"
    assert "copied" in found["containerd.link"]["found"]
    assert not list(containerd.content_root.glob("blobs/*/*"))


def test_a_name_that_is_no_digest_is_found_and_collection_really_fails(
    containerd: Containerd, data: Path
) -> None:
    import_pause(containerd)
    (containerd.content_root / "blobs/sha256/.airside-x.tmp").touch()
    code, found = doctor("--data", data, "--runtime", containerd.socket)
    assert code == 1
    assert found["containerd.collection"]["severity"] == "problem"
    assert ".airside-x.tmp" in found["containerd.collection"]["found"]
    assert "garbage collection failed" in containerd.log


@on_one("2.1")
def test_a_mirror_that_is_written_is_seen(containerd: Containerd, data: Path) -> None:
    file = containerd.hosts / "_default/hosts.toml"
    file.parent.mkdir()
    host = '[host."http://127.0.0.1:5050"]\ncapabilities = ["pull", "resolve"]\n'
    file.write_text(f'server = "http://127.0.0.1:9"\n{host}')
    _, found = doctor("--data", data, "--runtime", containerd.socket)
    assert found["containerd.mirror"]["severity"] == "ok"
    assert "then http://127.0.0.1:9 fails after" in found["containerd.miss"]["found"]


def test_explain_and_doctor_agree_on_a_containerd_of_other_places(
    containerd: Containerd, tmp_path: Path
) -> None:
    """Its socket, configuration and directory of hosts.toml files are those of flags."""
    images, archive = tmp_path / "images", tmp_path / "images/hello.tar"
    images.mkdir()
    write_sample(archive)
    default = containerd.hosts / "_default/hosts.toml"
    default.parent.mkdir()
    default.write_text('server = "http://127.0.0.1:9"\n[host]\n')  # nothing else is asked
    with Agent(images, tmp_path / "data", flags=("--runtime", str(containerd.socket))) as agent:
        agent.wait_imported(archive)
        words = ("--data", agent.data)
        for expected in (False, True):
            [mirror] = json.loads(airside("explain", SAMPLE_NAME, "--json", *words).stdout)[
                "mirrors"
            ]
            assert (mirror["set"], mirror["directory"]) == (expected, str(containerd.hosts))
            _, found = doctor(*words)
            finding = found["containerd.mirror"]
            assert (finding["severity"] == "ok") is expected
            if not expected:
                assert mirror["then"] == []
                command = finding["advice"].partition(";")[0].split()
                assert airside(*command[1:]).returncode == 0
        assert mirror["then"] == ["http://127.0.0.1:9"]
        assert airside(*command[1:], "--only").returncode == 0
        _, found = doctor(*words)
        assert "nothing else is asked" in found["containerd.miss"]["found"]


@pytest.mark.needs("setpriv")
@on_one("1.7")
def test_a_user_without_permission_is_told_what_was_not_seen(
    containerd: Containerd, data: Path
) -> None:
    """Named by hand it is a problem: an agent of this user could not publish."""
    words = ("--data", data, "--runtime", containerd.socket)
    code, found = doctor(*words, before=AS_NOBODY)
    assert code == 1
    assert found["containerd.socket"]["severity"] == "problem"
    assert "may not connect" in found["containerd.socket"]["found"]
    assert found["doctor.user"]["severity"] == "note"
    assert found["data.directory"]["severity"] == "problem"
    assert "containerd.link" not in found


@pytest.mark.needs("setpriv")
@on_one("2.1")
def test_a_user_who_may_only_connect_sees_the_rest(containerd: Containerd, data: Path) -> None:
    import_pause(containerd)
    containerd.collect()
    containerd.socket.chmod(0o666)
    before = held(containerd)
    _, found = doctor("--data", data, "--runtime", containerd.socket, before=AS_NOBODY)
    assert held(containerd) == before
    assert found["containerd.socket"]["severity"] == "ok"
    assert found["containerd.sharing"]["severity"] == "ok"
    assert found["containerd.link"]["severity"] == "note"
    assert "containerd.gunzip" not in found


@on_one("1.6")
def test_a_containerd_that_is_stopped_in_its_tracks_is_given_up(
    containerd: Containerd, data: Path
) -> None:
    os.kill(containerd.pid, signal.SIGSTOP)  # the kernel takes connections, nobody answers
    try:
        code, found = doctor("--data", data, "--runtime", containerd.socket)
    finally:
        os.kill(containerd.pid, signal.SIGCONT)
    assert code == 1
    assert found["containerd.socket"]["severity"] == "problem"
    assert "does not answer" in found["containerd.socket"]["found"]


def test_a_running_agent_is_asked(agent: Agent) -> None:
    code, found = doctor("--data", agent.data, "--runtime", "none")
    assert code == 0
    assert found["agent"]["severity"] == "ok"
    assert found["registry"]["severity"] == "ok"
    assert found["data.directory"]["severity"] == "ok"
    assert str(agent.watched) in {
        item["subject"] for item in found.values() if item["id"] == "images.directory"
    }
    assert "data.lock" not in found
    assert agent.registry in found["containerd"]["advice"]


@on_one("1.7")
def test_the_sockets_of_the_running_agent_are_looked_at(
    containerd: Containerd, tmp_path: Path
) -> None:
    """It was started with flags that the doctor's settings do not have."""
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    with Agent(images, data, flags=["--runtime", str(containerd.socket)]) as agent:
        agent.wait_for(lambda: any(each["connected"] for each in agent.status()["runtimes"]))
        _, found = doctor("--data", data)
    assert found["agent.runtime"]["severity"] == "ok"
    assert found["agent.runtime"]["subject"] == str(containerd.socket)
    assert found["containerd.link"]["severity"] == "ok"
    assert found["images.directory"]["subject"] == str(images)


def test_an_archive_in_trouble_is_told(agent: Agent) -> None:
    (agent.watched / "bad.tar").write_bytes(b"no archive" * 100)
    agent.wait_state(agent.watched / "bad.tar", "rejected")
    code, found = doctor("--data", agent.data, "--runtime", "none")
    assert code == 0
    assert found["archives"]["severity"] == "warning"
    assert doctor("--data", agent.data, "--runtime", "none", "--strict")[0] == 1


def test_an_agent_that_is_stopped_in_its_tracks_is_a_problem(agent: Agent) -> None:
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        code, found = doctor("--data", agent.data, "--runtime", "none")
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    assert code == 1
    assert found["agent"]["severity"] == "problem"
