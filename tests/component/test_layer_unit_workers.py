"""Workers that write layers as a unit: begun by connecting, with mounts of their own."""

import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.layer_writer import WORKER_COMMAND, messages
from airside.containerd.layer_writer.messages import Outcome, receive_reply
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.layer_writer.worker_unit import UnitWorker, is_needed
from airside.core.errors import AirsideError, StoppedError, UnusualLayerError
from airside.core.priority import LOW, NORMAL, Priority
from support.layer_tars import bound, entry, many_files, tar_of, verified
from support.layers_unit import AGENT_POWERS, LayersUnit, listening
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root writes layers"),
    pytest.mark.needs("unshare", "setpriv"),
]


class Writing:
    """A writer by way of a unit, and a directory that stands for a snapshot."""

    def __init__(self, base: Path, unit: LayersUnit, priority: Priority = NORMAL) -> None:
        self.base, self.snapshot, self.unit = base, base / "snapshot", unit
        self.snapshot.mkdir(exist_ok=True)
        self.pool = WorkerPool(start=lambda: UnitWorker(unit.path, priority))

    def write(self, tar: bytes, stop=lambda: False) -> None:
        writer = DirectoryWriter(self.pool, LayerLimits(), most_big=1)
        with closing(verified(self.base / "tar", tar)) as opened:
            writer.write(bound(self.snapshot), opened, stop)

    def files(self) -> int:
        return sum(len(names) for _, _, names in os.walk(self.snapshot))


@contextmanager
def writing_to(base: Path, mounts: str = "", priority: Priority = NORMAL) -> Iterator[Writing]:
    with listening(base / "layers.sock", mounts) as unit:
        made = Writing(base, unit, priority)
        try:
            yield made
        finally:
            made.pool.close()


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    with writing_to(tmp_path) as made:
        yield made


def children_of(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_one_connection_writes_one_layer_after_the_other(writing: Writing) -> None:
    for name in ("a", "b"):
        device = entry(f"{name}.dev", tarfile.CHRTYPE, devmajor=1, devminor=3)
        writing.write(tar_of([entry(name, data=b"1", uid=5, gid=7, mode=0o4755), device]))
        found = (writing.snapshot / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode) == (5, 7, 0o104755)
        assert (writing.snapshot / f"{name}.dev").is_char_device()
    assert len(writing.unit.workers) == 1


def test_an_agent_without_powers_writes_through_it(writing: Writing) -> None:
    done = subprocess.run(
        [*AGENT_POWERS, sys.executable, "-c", POWERLESS, Path(__file__).parents[1], writing.base],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert (done.stdout.split(), done.stderr) == (["True", "done"], "")
    assert (writing.snapshot / "a").stat().st_uid == 5
    assert not is_needed(writing.unit.path)  # this process has the powers


POWERLESS = """
import sys; sys.path.append(sys.argv[1])
from pathlib import Path
from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.layer_writer.worker_unit import UnitWorker, is_needed
from airside.core.priority import NORMAL
from support.layer_tars import bound, entry, tar_of, verified
base = Path(sys.argv[2])
print(is_needed(base / "layers.sock"))
pool = WorkerPool(start=lambda: UnitWorker(base / "layers.sock", NORMAL))
DirectoryWriter(pool, LayerLimits(), most_big=1).write(
    bound(base / "snapshot"), verified(base / "tar", tar_of([entry("a", uid=5)])), lambda: False
)
pool.close()
print("done")
"""


def test_nothing_writes_any_more_once_it_is_stopped(writing: Writing) -> None:
    with pytest.raises(StoppedError):
        writing.write(many_files(20_000), stop=lambda: writing.files() > 100)
    found = writing.files()
    assert found < 20_000
    writing.write(tar_of([entry("another")]))
    assert (writing.snapshot / "another").exists()
    assert writing.files() == found + 1


def test_its_processes_end_when_the_agent_is_killed(writing: Writing) -> None:
    script = POWERLESS.replace('tar_of([entry("a", uid=5)])', "many_files(20_000)")
    script = script.replace("tar_of, verified", "many_files, verified")
    words = [*AGENT_POWERS, sys.executable, "-c", script, Path(__file__).parents[1], writing.base]
    agent = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    wait_until(lambda: writing.files() > 100)
    agent.kill()
    agent.wait(LIMIT_SECONDS)
    [worker] = writing.unit.workers
    assert worker.wait(LIMIT_SECONDS) == 0
    assert writing.files() < 20_000


@pytest.mark.parametrize("child", [True, False], ids=["child", "worker"])
def test_a_process_that_dies_leaves_the_layer_to_containerd(
    writing: Writing, *, child: bool
) -> None:
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(writing.write, many_files(20_000))
        wait_until(lambda: writing.files() > 100)
        [pid] = writing.unit.pids()
        os.kill(children_of(pid)[0] if child else pid, 9)
        with pytest.raises(UnusualLayerError):
            done.result(LIMIT_SECONDS)
    writing.write(tar_of([entry("another")]))
    assert (writing.snapshot / "another").exists()


def test_a_unit_that_ended_is_connected_to_again(writing: Writing) -> None:
    writing.write(tar_of([entry("a")]))
    wait_until(lambda: not children_of(writing.unit.pids()[0]))
    writing.unit.workers[0].kill()
    writing.unit.workers[0].wait(LIMIT_SECONDS)
    writing.write(tar_of([entry("b")]))
    assert len(writing.unit.workers) == 2


def test_a_worker_that_sees_another_directory_there_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "snapshot").mkdir()
    mounts = f"mount --bind {tmp_path}/other {tmp_path}/snapshot"
    with (
        writing_to(tmp_path, mounts) as writing,
        pytest.raises(UnusualLayerError, match="another directory"),
    ):
        writing.write(tar_of([entry("a")]))
    assert not list((tmp_path / "other").iterdir())
    assert not list((tmp_path / "snapshot").iterdir())


def test_nothing_is_written_where_the_unit_may_not_write(tmp_path: Path) -> None:
    """Whatever an agent asks for: the unit's mounts are read-only but for those of containerd."""
    (tmp_path / "snapshot").mkdir()
    place = tmp_path / "snapshot"
    mounts = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    with writing_to(tmp_path, mounts) as writing, pytest.raises(AirsideError, match="Read-only"):
        writing.write(tar_of([entry("a")]))
    assert not list(place.iterdir())


def test_the_priority_of_imports_reaches_it(tmp_path: Path) -> None:
    with writing_to(tmp_path, priority=LOW) as writing:
        writing.write(tar_of([entry("a")]))
        [pid] = writing.unit.pids()
        assert os.getpriority(os.PRIO_PROCESS, pid) == max(
            LOW.nice, os.getpriority(os.PRIO_PROCESS, 0)
        )


def test_a_worker_of_another_version_writes_nothing(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the moment of an upgrade."""
    made = messages.Request.__init__
    monkeypatch.setattr(
        messages.Request,
        "__init__",
        lambda *args, **fields: made(*args, **(fields | {"version": "0.1"})),
    )
    with pytest.raises(UnusualLayerError, match="is of version"):
        writing.write(tar_of([entry("a")]))
    assert writing.files() == 0


def test_without_a_listener_the_layer_is_left_to_containerd(tmp_path: Path) -> None:
    with writing_to(tmp_path) as writing:
        pass
    with pytest.raises(UnusualLayerError, match="refused"):
        writing.write(tar_of([entry("a")]))


def test_only_root_is_served() -> None:
    """Whoever made the other end, not whoever holds it now."""
    os.seteuid(65534)
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    finally:
        os.seteuid(0)
    number = str(theirs.fileno())
    words = [sys.executable, "-m", "airside", WORKER_COMMAND, number, "accepted"]
    with ours:
        ours.shutdown(socket.SHUT_WR)  # it asks for nothing
        with theirs:
            worker = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        reply = receive_reply(ours)
        assert worker.wait(LIMIT_SECONDS) == 0
    assert reply is not None
    assert reply.outcome is Outcome.FAILED
    assert "65534" in reply.text
