"""What the other tests stand on: real containerd of three versions, each in its own directory."""

import dataclasses
import hashlib
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from support import remains
from support.containerd import Containerd, by_turns, overlays_work
from support.containerd_config import GC_OFTEN, Options, Snapshotter
from support.pause import PAUSE_NAME, write_pause
from support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

BLOB = b"what no name leads to"
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
GC_LATE = Options(gc={"startup_delay": "1h"})
"""The first collection is soon after the start, and until then none is caused by changes."""


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "hello.tar"
    write_sample(path, format="docker")
    return path


@pytest.fixture
def pause(tmp_path: Path) -> Path:
    path = tmp_path / "pause.tar"
    write_pause(path)
    return path


def import_into(containerd: Containerd, archive: Path) -> None:
    flags = [*containerd.local, "--snapshotter", containerd.options.snapshotter]
    containerd.did("images", "import", *flags, archive)


def images(containerd: Containerd) -> set[str]:
    """Those with a name; CRI adds records of image IDs."""
    listed = containerd.did("images", "ls", "-q").split()
    return {name for name in listed if not name.startswith("sha256:")}


def blobs(containerd: Containerd, namespace: str = "k8s.io") -> set[str]:
    return set(containerd.did("content", "ls", "-q", namespace=namespace).split())


def task(containerd: Containerd, name: str) -> tuple[int, str]:
    """Process id and state."""
    rows = [row.split() for row in containerd.did("tasks", "ls").splitlines()[1:]]
    [(pid, state)] = [(int(row[1]), row[2]) for row in rows if row[0] == name]
    return pid, state


def network_of(pid: int | str) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def interfaces(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


# what is running


def test_it_is_of_the_version_asked_for(shared_containerd: Containerd, containerd_version: str):
    said = [part.split()[0] for part in shared_containerd.did("version").split(" Version:")[1:]]
    assert len(said) == 2, "of the client and of the server"
    assert {".".join(number.split(".")[:2]) for number in said} == {shared_containerd.version}
    assert shared_containerd.version.split(".") >= containerd_version.split(".")


def test_every_plugin_is_well_and_none_complains(containerd: Containerd):
    rows = [row.split() for row in containerd.did("plugins", "ls").splitlines()[1:] if row.strip()]
    assert ("io.containerd.grpc.v1", "cri") in {(row[0], row[1]) for row in rows}
    assert {(row[0], row[1]) for row in rows if row[-1] != "ok"} == set()
    levels = ("level=warning", "level=error", "level=fatal")
    assert [line for line in containerd.log.splitlines() if any(x in line for x in levels)] == []


def test_its_configuration_names_no_path_of_the_host(shared_containerd: Containerd):
    command = [shared_containerd.programs / "containerd", "config", "dump"]
    command[1:1] = ["--config", shared_containerd.home / "config.toml"]
    dump = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    config = tomllib.loads(dump.stdout)
    del config["stream_processors"]  # they decrypt layers, which none of ours needs
    paths = {Path(value) for value in strings(config) if value.startswith("/")}
    outside = {path for path in paths if not path.is_relative_to(shared_containerd.home)}
    assert shared_containerd.root in paths
    assert outside - {shared_containerd.socket} == set()


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


# containers


@pytest.mark.parametrize(
    ("containerd_version", "snapshotter"),
    by_turns([("overlayfs",), ("native",), ("overlayfs",)]),
    indirect=["containerd_version"],
)
def test_a_container_runs_from_an_archive(
    containerd_version: str, snapshotter: Snapshotter, sample: Path, tmp_path: Path
):
    if snapshotter == "overlayfs" and not overlays_work(tmp_path):
        pytest.skip("no overlay can be mounted in the directory of tests")
    options = Options(snapshotter=snapshotter)
    with Containerd(containerd_version, tmp_path / "c", options=options) as containerd:
        import_into(containerd, sample)
        ran = containerd.run_container(SAMPLE_NAME, "hello")
        assert (ran.stdout.encode(), ran.returncode) == (MESSAGE, 0), ran.stderr
        kept = containerd.did("snapshots", "--snapshotter", snapshotter, "ls").splitlines()[1:]
        assert len(kept) == 1, "the image's layer, and none of a container that has ended"


def test_a_container_has_no_network(shared_containerd: Containerd, pause: Path):
    import_into(shared_containerd, pause)
    shared_containerd.run_container(PAUSE_NAME, "waits", flags=("-d",))
    pid, _state = task(shared_containerd, "waits")
    assert network_of(pid) != network_of("self")
    assert interfaces(pid) == ["lo"]
    shared_containerd.did("tasks", "delete", "--force", "waits")
    shared_containerd.did("containers", "delete", "waits")


def test_a_container_outlives_containerd_and_nothing_outlives_the_test(
    containerd_version: str, pause: Path
):
    with Containerd(containerd_version) as containerd:
        import_into(containerd, pause)
        containerd.run_container(PAUSE_NAME, "waits", flags=("-d",))
        before = task(containerd, "waits")
        containerd.kill()
        containerd.start()
        assert task(containerd, "waits") == before
        containerd.restart()
        assert task(containerd, "waits") == before
        pid, state = before
        assert state == "RUNNING"
        groups = remains.groups_of(pid)
        assert any("waits" in group.name for group in groups)
        assert len(remains.shims_of(containerd.socket)) == 1
        sockets = remains.shim_sockets(containerd.state)
        assert sockets
        assert all(socket.exists() for socket in sockets)
    assert remains.shims_of(containerd.socket) == []
    assert not any(socket.exists() for socket in sockets)
    assert not Path(f"/proc/{pid}").exists()
    assert not [group for group in groups if "waits" in group.name and group.exists()]
    assert not containerd.home.exists()


def test_what_is_mounted_in_its_directory_is_unmounted(containerd_version: str, tmp_path: Path):
    home, other = tmp_path / "c", tmp_path / "other"
    (home / "root").mkdir(parents=True)
    other.mkdir()
    subprocess.run(["mount", "--bind", other, home / "root"], check=True)
    with Containerd(containerd_version, home):
        assert remains.mounts_below(tmp_path) == [home / "root"]
        assert any(other.iterdir()), "it works in what was mounted"
    assert remains.mounts_below(tmp_path) == []


# its life


def test_a_restart_keeps_what_it_holds(containerd: Containerd, sample: Path):
    import_into(containerd, sample)
    containerd.collect()  # the importer leaves some
    held = blobs(containerd)
    pid = containerd.pid
    containerd.restart()
    assert containerd.pid != pid
    assert images(containerd) == {SAMPLE_NAME}
    assert blobs(containerd) == held
    files = (containerd.content_root / "blobs/sha256").iterdir()
    assert {f"sha256:{path.name}" for path in files} == held


def test_a_wipe_leaves_nothing(containerd: Containerd, sample: Path, pause: Path):
    import_into(containerd, sample)
    import_into(containerd, pause)
    containerd.run_container(PAUSE_NAME, "waits", flags=("-d",))
    containerd.wipe()
    assert (images(containerd), blobs(containerd)) == (set(), set())
    assert remains.shims_of(containerd.socket) == []
    import_into(containerd, sample)
    assert containerd.run_container(SAMPLE_NAME, "hello").stdout.encode() == MESSAGE


# options


def ingest(containerd: Containerd, data: bytes, namespace: str, directory: Path) -> int:
    """Write what is said to be `BLOB`; gives the exit status."""
    file = directory / "written"
    file.write_bytes(data)
    flags = ["--expected-digest", DIGEST, "--expected-size", str(len(BLOB))]
    command = [containerd.programs / "ctr", "-a", containerd.socket, "-n", namespace]
    words = [*command, "content", "ingest", *flags, "a-key"]
    with file.open("rb") as stdin:
        done = subprocess.run(words, stdin=stdin, capture_output=True, check=False, timeout=60)
    return done.returncode


def test_garbage_is_collected_when_asked(containerd_version: str, tmp_path: Path):
    with Containerd(containerd_version, tmp_path / "c", options=GC_LATE) as containerd:
        assert ingest(containerd, BLOB, "one", tmp_path) == 0
        assert blobs(containerd, "one") == {DIGEST}
        containerd.collect()
        assert blobs(containerd, "one") == set()


def test_garbage_is_collected_often_if_told(containerd_version: str, tmp_path: Path):
    options = Options(gc=GC_OFTEN)
    with Containerd(containerd_version, tmp_path / "c", options=options) as containerd:
        assert ingest(containerd, BLOB, "one", tmp_path) == 0
        wait_until(lambda: not blobs(containerd, "one"))


@pytest.mark.parametrize(
    ("containerd_version", "sharing"),
    by_turns([("shared",), ("isolated",), ("isolated",)]),
    indirect=["containerd_version"],
)
def test_namespaces_share_content_or_not(containerd_version: str, sharing: str, tmp_path: Path):
    options = dataclasses.replace(GC_LATE, sharing=sharing)
    with Containerd(containerd_version, tmp_path / "c", options=options) as containerd:
        assert ingest(containerd, BLOB, "one", tmp_path) == 0
        taken = ingest(containerd, b"", "two", tmp_path) == 0
        assert taken == (sharing == "shared")
        assert blobs(containerd, "two") == ({DIGEST} if taken else set())
