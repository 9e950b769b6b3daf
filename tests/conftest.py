"""What all tests share: real components by name, a disk to write to, and nothing left behind."""

import asyncio
import gc
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from support import containerd, host, warm
from support.debian import UnreachableError
from support.longest_files import begin_with_the_longest
from support.size import sized
from support.users import directory_for_all

COMPONENT = Path(__file__).parent / "component"
REQUIRED = os.environ.get("REQUIRE_COMPONENTS") == "1"
WIND_DOWN_SECONDS = 20.0
"""How long threads and descriptors of a test may take to go after it."""

# /tmp is often kept in memory, where fsync, sendfile and free space are not what they are on disk.
if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/var/tmp")

# Without it gRPC's pollers also run in what is forked here, on descriptors that are closed there.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# Debian keeps some components where only root's PATH looks.
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

_HOST = tempfile.TemporaryDirectory(prefix="airside-host-", dir="/tmp", ignore_cleanup_errors=True)
(Path(_HOST.name) / "root").mkdir()
host.reset_process()
host.own_host(Path(_HOST.name) / "root")

EXAMPLES = sized(40, 500)
settings.register_profile("local", deadline=None, max_examples=EXAMPLES)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "local")


class _FailuresAtOnce:
    """Name what failed when it fails: a run that is cut short prints no summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.ensure_newline()
            self._terminal.write_line(f"FAILED ({report.when}) {report.nodeid}")
            lines = report.longreprtext.splitlines()
            self._terminal.write_line("\n".join(lines[-12:]))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:  # a worker has none
        config.pluginmanager.register(_FailuresAtOnce(terminal))
    if hasattr(config.option, "loadscopereorder"):  # else those with the most tests come first
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files for several processes; in one process they stay as they were asked for."""
    if hasattr(config, "workerinput"):
        order = {p: n for n, p in enumerate(begin_with_the_longest(item.path for item in items))}
        items.sort(key=lambda item: order[item.path])


def pytest_collection_finish() -> None:
    """Leave what is there before the first test out of every look for what tests left behind."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is absent; fail it where all components were to be installed."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program) is None:
                _absent(f"needs {program}, which is not installed (scripts/setup-debian.sh test)")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:  # noqa: ARG001 - the hook's
    """What a test wants of another Debian release may be out of reach: then so is the test."""
    try:
        return (yield)
    except UnreachableError as exc:
        _absent(str(exc))


def _absent(reason: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(f"REQUIRE_COMPONENTS=1: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session", params=containerd.VERSIONS)
def containerd_version(request: pytest.FixtureRequest) -> str:
    """Each version of containerd that is tested: its programs are here, and we may run them."""
    return _available(request.param)


@pytest.fixture(scope="session")
def newest_containerd() -> str:
    """The newest of these versions, where one is enough."""
    return _available(containerd.VERSIONS[-1])


def _available(version: str) -> str:
    if os.geteuid() != 0:
        _absent("containerd needs root")
    try:
        containerd.programs_of(version)
    except UnreachableError as exc:
        _absent(str(exc))
    return version


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that every user may enter and read; that of pytest is root's alone."""
    with directory_for_all() as directory:
        yield directory


@pytest.fixture(autouse=True)
def _host_untouched() -> Iterator[None]:
    """No test touches what belongs to the host, nor does a process that it starts."""
    yield
    found = host.touched()
    if found:
        pytest.fail("touched of the host: " + "; ".join(found), pytrace=False)


@pytest.fixture(autouse=True)
def _nothing_left(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """After a component test no thread, task, descriptor or temporary file is left."""
    if COMPONENT not in request.path.parents:
        yield
        return
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    scratch = factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = (set(threading.enumerate()), set(map(id, _pending_tasks())), _descriptors())
    yield
    left = _left(*before, scratch)
    deadline = time.monotonic() + WIND_DOWN_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = _left(*before, scratch)
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


def _left(
    threads: set[threading.Thread], tasks: set[int], descriptors: dict[int, str], scratch: Path
) -> list[str]:
    found = [f"thread {t.name}" for t in threading.enumerate() if t not in threads]
    found += [f"task {task!r}" for task in _pending_tasks() if id(task) not in tasks]
    found += [
        f"descriptor {number} of {target}"
        for number, target in _descriptors().items()
        if descriptors.get(number) != target
    ]
    found += [f"file {path.name}" for path in scratch.iterdir()]
    if not found:
        return []
    gc.collect()  # cycles of a failed test's frames are no leak
    return found


def _pending_tasks() -> list[asyncio.Task[object]]:
    return [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), asyncio.Task) and not thing.done()
    ]


def _descriptors() -> dict[int, str]:
    """What each open descriptor refers to, but for the one that lists them and those of `warm`."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - no open iterator is wanted here
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except FileNotFoundError:
            continue
    for number in warm.descriptors():
        found.pop(number, None)
    return found
