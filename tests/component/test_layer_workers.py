"""The processes that write layers: what they may not, their limits, and their ends."""

import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.layer_writer import WORKER_COMMAND
from airside.containerd.layer_writer.messages import (
    MOST_DIRECTORIES,
    Outcome,
    Request,
    receive_reply,
    receive_request,
    send_request,
)
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.layer_writer.worker_process import WorkerProcess, command
from airside.core.errors import LayerRefusedError, StoppedError, UnusualLayerError
from support.layer_tars import bound, entry, many_files, tar_of, verified
from support.layers_unit import AGENT_POWERS
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes layers")

LIMITS = LayerLimits(entries=1000, depth=20, content_bytes=1 << 20)


def running() -> bool:
    return False


class Writing:
    """A writer, and a directory that stands for a snapshot."""

    def __init__(self, base: Path) -> None:
        self.base, self.snapshot = base, base / "snapshot"
        self.snapshot.mkdir()
        self.pids: list[int] = []
        self.pool = WorkerPool(start=self._start)

    def _start(self) -> WorkerProcess:
        made = WorkerProcess()
        self.pids.append(made.pid)
        return made

    def write(self, tar: bytes, limits: LayerLimits = LIMITS, stop=running) -> None:
        writer = DirectoryWriter(self.pool, limits, most_big=1)
        with closing(verified(self.base / "tar", tar)) as opened:
            writer.write(bound(self.snapshot), opened, stop)

    def files(self) -> int:
        return sum(len(names) for _, _, names in os.walk(self.snapshot))


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    made = Writing(tmp_path)
    yield made
    made.pool.close()
    assert not any(map(is_alive, made.pids))


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists()


def children_of(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_one_process_writes_one_layer_after_the_other(writing: Writing) -> None:
    for name in ("a", "b"):
        writing.write(tar_of([entry(name, data=b"1", uid=5, gid=7, mode=0o4755)]))
        found = (writing.snapshot / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode) == (5, 7, 0o104755)
    assert len(writing.pids) == 1


def test_an_idle_process_ends_and_the_next_layer_gets_another(writing: Writing) -> None:
    writing.pool = WorkerPool(idle_seconds=0, start=writing._start)
    writing.write(tar_of([entry("a")]))
    wait_until(lambda: not is_alive(writing.pids[0]))
    writing.write(tar_of([entry("b")]))
    assert len(writing.pids) == 2


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([entry(f"f{n}") for n in range(1100)], "f1000"),
        ([entry("/".join(["d"] * 40) + "/deep")], "deep"),
        ([entry("a", data=bytes(1 << 19)), entry("b", data=bytes(1 << 20))], "b"),
        ([entry("n" * 300)], "nnn"),
    ],
    ids=["entries", "depth", "bytes", "name"],
)
def test_a_bomb_is_refused_and_its_member_named(writing: Writing, members, named: str) -> None:
    with pytest.raises(LayerRefusedError, match=named):
        writing.write(tar_of(members))


def test_a_layer_that_takes_too_much_processor_time_is_refused(writing: Writing) -> None:
    """The kernel sends the signal at the soft limit; it kills at the hard one."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(writing.write, many_files(20_000), LayerLimits())
        wait_until(lambda: writing.files() > 100)
        [child] = children_of(writing.pids[0])
        limits = Path(f"/proc/{child}/limits").read_text().splitlines()
        assert [line.split()[3:5] for line in limits if "cpu time" in line] == [["124", "129"]]
        os.kill(child, signal.SIGXCPU)
        with pytest.raises(LayerRefusedError, match="processor"):
            done.result(LIMIT_SECONDS)


@pytest.mark.parametrize(
    "members",
    [
        [entry("a", tarfile.SYMTYPE, linkname="{outside}"), entry("a/x", data=b"1")],
        [entry("a", tarfile.SYMTYPE, linkname="../../../../{outside}"), entry("a/x", data=b"1")],
        [entry("../../x", data=b"1")],
        [entry("a", tarfile.LNKTYPE, linkname="../../secret")],
        [entry("{outside}/x", data=b"1")],
    ],
)
def test_nothing_is_written_outside(writing: Writing, members: list[bytes]) -> None:
    outside = writing.base / "outside"
    outside.mkdir()
    (writing.base / "secret").write_text("secret")
    tar = tar_of(members).replace(b"{outside}", str(outside).encode()[:9].ljust(9, b"/"))
    assert len(tar) % 512 == 0
    with_sums = b"".join(_summed(tar[n : n + 512]) for n in range(0, len(tar), 512))
    with suppress(LayerRefusedError, UnusualLayerError):
        writing.write(with_sums)
    assert {path.name for path in writing.base.iterdir()} == {
        "outside",
        "secret",
        "snapshot",
        "tar",
    }
    assert list(outside.iterdir()) == []
    assert (writing.base / "secret").stat().st_nlink == 1


def _summed(block: bytes) -> bytes:
    """Returns a header with its checksum put right; other blocks as they are."""
    if block[257:262] != b"ustar":
        return block
    whole = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(whole) + block[156:]


def test_nothing_leads_out_while_another_process_swaps_directories_for_links(
    writing: Writing,
) -> None:
    outside = writing.base / "outside"
    outside.mkdir()
    swapper = subprocess.Popen([sys.executable, "-c", SWAPPER, writing.snapshot, outside])
    try:
        for _ in range(3):
            with suppress(LayerRefusedError, UnusualLayerError):
                writing.write(many_files(3000, directories=4), LayerLimits())
    finally:
        swapper.kill()
        swapper.wait(LIMIT_SECONDS)
    assert list(outside.iterdir()) == []


SWAPPER = """
import os, sys
snapshot, outside = sys.argv[1:]
for n in range(1 << 40):
    path, aside = f"{snapshot}/d0{n % 4}", f"{snapshot}/aside{n}"
    try:
        os.rename(path, aside)
        os.symlink(outside if n % 8 < 4 else "../outside", path)
        os.unlink(path)
        os.rename(aside, path)
    except OSError:
        pass
"""


def test_a_stop_ends_it_and_nothing_is_written_after_it(writing: Writing) -> None:
    with pytest.raises(StoppedError):
        writing.write(many_files(20_000), LayerLimits(), stop=lambda: writing.files() > 100)
    found = writing.files()
    assert not any(map(is_alive, writing.pids))
    writing.write(tar_of([entry("another")]))
    assert writing.files() == found + 1


@pytest.mark.parametrize("child", [False, True], ids=["worker", "child"])
def test_a_process_that_is_killed_leaves_the_layer_to_containerd(
    writing: Writing, *, child: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(writing.write, many_files(20_000), LayerLimits())
        wait_until(lambda: writing.files() > 100)
        [pid] = writing.pids
        os.kill(children_of(pid)[0] if child else pid, signal.SIGKILL)
        with pytest.raises(UnusualLayerError):
            done.result(LIMIT_SECONDS)
    assert "left to containerd" in caplog.text
    writing.write(tar_of([entry("another")]))
    assert (writing.snapshot / "another").exists()


AGENT = """
import sys
from pathlib import Path
from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.containerd.layer_writer.worker_process import WorkerProcess
from support.layer_tars import bound, many_files, verified
def start():
    made = WorkerProcess()
    print(made.pid, flush=True)
    return made
base = Path(sys.argv[1])
writer = DirectoryWriter(WorkerPool(start=start), LayerLimits(), most_big=1)
writer.write(bound(base / "snapshot"), verified(base / "tar", many_files(20_000)), lambda: False)
"""


def test_its_processes_end_when_the_agent_is_killed(writing: Writing) -> None:
    tests = Path(__file__).parents[1]
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, writing.base],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tests}"},
    )
    assert agent.stdout is not None
    with agent.stdout as said:
        worker = int(said.readline())
        wait_until(lambda: writing.files() > 100)
        [child] = children_of(worker)
        agent.kill()
        agent.wait(LIMIT_SECONDS)
    wait_until(lambda: not is_alive(worker) and not is_alive(child))
    assert writing.files() < 20_000


def test_what_a_confined_process_may_not(tmp_path: Path) -> None:
    """The process tries it itself, confined as for a layer with trusted attributes."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "planted.py").touch()
    (tmp_path / "lower").mkdir()
    (tmp_path / "secret").write_text("secret")
    place = str(Path(WorkerProcess.__init__.__globals__["__file__"]).parents[3])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CONFINED, place, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert (done.stdout.split(), done.stderr) == (["done"], "")


def test_at_the_limit_of_processor_time_the_kernel_tells_that_it_is_this_limit(
    tmp_path: Path,
) -> None:
    place = str(Path(WorkerProcess.__init__.__globals__["__file__"]).parents[3])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SPINNING, place, tmp_path],
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == -signal.SIGXCPU


SPINNING = """
import os, sys
sys.path.append(sys.argv[1])
from airside.containerd.layer_writer.confinement import Bounds, confine
confine(os.open(sys.argv[2], os.O_RDONLY), [], Bounds(1, 1 << 28, 1 << 20), trusted=False)
while True:
    pass
"""


CONFINED = """
import ctypes, os, signal, socket, sys
sys.path.append(sys.argv[1])
from airside.containerd.layer_writer.confinement import Bounds, confine, leave_network
leave_network()
upper = os.open(sys.argv[2] + "/root", os.O_RDONLY)
lower = os.open(sys.argv[2] + "/lower", os.O_RDONLY)
root, [below] = confine(upper, [lower], Bounds(60, 1 << 28, 1 << 20), trusted=True)
libc = ctypes.CDLL(None)
def refused(what, *args, **fields):
    try:
        what(*args, **fields)
    except OSError:
        return
    print("not refused:", what, args)
refused(socket.socket)
refused(os.execv, "/bin/true", ["true"])
refused(os.kill, 1, 0)
refused(os.fork)
SIGQUEUE = {"x86_64": 129, "aarch64": 138}[os.uname().machine]
info = (ctypes.c_int * 32)(signal.SIGKILL, 0, -1)
assert libc.syscall(SIGQUEUE, os.getppid(), 0, info) == -1
refused(os.get_terminal_size, root)
sys.path.insert(0, "/")
try:
    import planted
    print("imported from the layer")
except ImportError:
    pass
refused(os.chroot, ".")
refused(os.open, "../secret", os.O_RDONLY, dir_fd=root)
refused(os.open, "../secret", os.O_RDONLY, dir_fd=below)
refused(os.open, "/secret", os.O_RDONLY)
refused(os.mkdir, "x", dir_fd=below)
refused(os.setuid, 1000)
assert libc.mount(b"/", b"/", None, 4096, None) == -1
assert libc.unshare(0x10000000) == -1
os.mknod("disk", 0o60600, os.makedev(1, 3))
refused(os.open, "disk", os.O_RDONLY)
os.chown("disk", 5, 7)
os.setxattr("/", "trusted.overlay.opaque", b"y")
assert set(os.listdir("/")) == {"disk", "planted.py"}
print("done")
"""


def test_small_layers_do_not_wait_for_big_ones(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airside.containerd.directory_writer._BIG_BYTES", 1 << 20)
    writer = DirectoryWriter(writing.pool, LayerLimits(), most_big=1)
    ended = threading.Event()
    big = verified(writing.base / "big", many_files(20_000))
    small = verified(writing.base / "small", tar_of([entry("small")]))
    with closing(big), closing(small), ThreadPoolExecutor(2) as pool:
        bigs = [
            pool.submit(writer.write, bound(writing.snapshot), big, ended.is_set) for _ in range(2)
        ]
        wait_until(lambda: writing.files() > 100)
        writer.write(bound(writing.snapshot), small, running)
        assert not any(each.done() for each in bigs)
        ended.set()
        for each in bigs:
            with pytest.raises(StoppedError):
                each.result(LIMIT_SECONDS)
    assert len(writing.pids) == 2  # the second big layer was waiting


def test_a_layer_that_cannot_be_confined_is_left_to_containerd(tmp_path: Path) -> None:
    """As in a systemd unit or a pod whose processes have none of root's powers."""
    script = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})\n{POWERLESS}"
    (tmp_path / "snapshot").mkdir()
    done = subprocess.run(
        [*AGENT_POWERS, sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert done.stdout.strip() == Outcome.UNUSUAL.value, done.stderr


POWERLESS = """
from pathlib import Path
from airside.containerd.directory_writer import DirectoryWriter
from airside.containerd.layer_writer.target import LayerLimits
from airside.containerd.layer_writer.worker_pool import WorkerPool
from airside.core.errors import UnusualLayerError
from support.layer_tars import bound, entry, tar_of, verified
base, pool = Path(sys.argv[1]), WorkerPool()
try:
    DirectoryWriter(pool, LayerLimits(), most_big=1).write(
        bound(base / "snapshot"), verified(base / "tar", tar_of([entry("a")])), lambda: False
    )
except UnusualLayerError:
    print("unusual")
pool.close()
"""


def test_a_process_without_powers_says_why_before_it_ends(tmp_path: Path) -> None:
    """The request that it leaves must not take the reply with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs, (tmp_path / "tar").open("wb") as tar:
            send_request(ours, Request("DELETION", {}, 1, 1, 1), [tar.fileno()])
            subprocess.run(
                [*AGENT_POWERS, *command(), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                check=True,
                timeout=LIMIT_SECONDS,
            )
        reply = receive_reply(ours)
    assert reply is not None
    assert (reply.outcome, "no network" in reply.text) == (Outcome.FAILED, True)


def test_a_request_that_lost_files_on_its_way_is_not_read() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, Path("/dev/null").open("rb") as file:
        too_many = [file.fileno()] * (MOST_DIRECTORIES + 2)
        send_request(ours, Request("DELETION", {}, 1, 1, 1), too_many)
        with pytest.raises(OSError, match="without all of its files"):
            receive_request(theirs)


def test_the_program_is_small_and_chosen_before_the_command_line() -> None:
    """A frozen build runs it by its first argument."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.close()
        program = "import sys; from airside.__main__ import main; main(); print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program, WORKER_COMMAND, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT_SECONDS,
        )
    loaded = done.stdout.split()
    assert "airside.containerd.layer_writer.write" in loaded
    assert not {"grpc", "aiohttp", "asyncio", "typer", "sqlite3", "tarfile"} & set(loaded)
