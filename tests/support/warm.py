"""Python programs that start at once: forked from a process that has imported Airside.

To import Airside costs an agent more processor time than a test needs of it. `start` runs a module
as `python -m` does, in a process of its own with its own environment, arguments and output; only
what was imported is shared. One parent serves each test process; it and its children die with it.

`python -m support.warm` is the parent: it forks for each request that it reads from its standard
input, a socket, and gives the status of a child that ended.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from support.processes import die_with_parent
from support.waiting import LIMIT_SECONDS

TESTS = Path(__file__).parents[1]
_BYTES = 1 << 20


class WarmProcess:
    """A started program, with what the tests need of `subprocess.Popen`."""

    def __init__(self, parent: "_Parent", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._parent = parent
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float) -> int:
        """Raises subprocess.TimeoutExpired after `timeout` seconds."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired([str(self.pid)], timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float) -> int | None:
        if self.returncode is None and select.select([self._descriptor], [], [], timeout)[0]:
            self.returncode = self._parent.ask({"ended": self.pid})
            os.close(self._descriptor)
        return self.returncode


def start(
    module: str,
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    output: int,
    errors: int | None = None,
) -> WarmProcess:
    """Run the module as `python -m MODULE ARGUMENTS…`.

    Its output goes to a descriptor, its errors to another or the same.
    """
    parent = _parents.get(os.getpid())
    if parent is None:  # each pytest worker has its own
        parent = _parents[os.getpid()] = _Parent()
    request = {"module": module, "arguments": list(arguments), "environ": dict(environ)}
    pid = parent.ask(
        {**request, "cwd": str(Path.cwd())}, output, output if errors is None else errors
    )
    return WarmProcess(parent, pid)


def descriptors() -> set[int]:
    """Returns those of this process that stay open for the next `start`."""
    parent = _parents.get(os.getpid())
    return set() if parent is None else {parent.descriptor}


def run(
    module: str, arguments: Sequence[object], *, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the module until its end; gives its exit code and outputs."""
    words = list(map(str, arguments))
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        files = {"output": output.fileno(), "errors": errors.fileno()}
        process = start(module, words, environ=environ, **files)
        try:
            code = process.wait(LIMIT_SECONDS)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, code, _text(output), _text(errors))


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def run_until_killed(module: str, *arguments: object, fault: str) -> None:
    """Run the module with `AIRSIDE_FAULT`, which must end it by SIGKILL."""
    died = run(module, arguments, environ={**os.environ, "AIRSIDE_FAULT": fault})
    assert died.returncode == -signal.SIGKILL, (fault, died.returncode, died.stderr[-2000:])


class _Parent:
    """The process that forks, as the tests see it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # it ends when our end of the socket is closed
                [sys.executable, "-m", "support.warm"], cwd=TESTS, stdin=theirs
            )

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> int:
        with self._lock:
            data = json.dumps(request).encode()
            socket.send_fds(self._socket, [data], descriptors)
            answer = self._socket.recv(_BYTES)
        assert answer, "the parent of warm processes ended"
        return int(answer)


_parents: dict[int, _Parent] = {}


def _serve() -> None:
    """Answer requests until the tests' end is closed; returns in each forked child."""
    with socket.socket(fileno=os.dup(0)) as asked:
        while True:
            data, descriptors, _, _ = socket.recv_fds(asked, _BYTES, 2)
            if not data:
                sys.exit(0)
            request = json.loads(data)
            if "ended" in request:
                _, status = os.waitpid(request["ended"], 0)
                asked.send(b"%d" % os.waitstatus_to_exitcode(status))
            elif pid := os.fork():
                for descriptor in descriptors:
                    os.close(descriptor)
                asked.send(b"%d" % pid)
            else:
                break
    _become(request, *descriptors)


def _become(request: Mapping[str, Any], output: int, errors: int) -> None:
    """Turn this forked child into what a fresh process of the program would be."""
    die_with_parent()
    with open(os.devnull) as nothing:  # noqa: PTH123 - the descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    for descriptor, standard in ((output, 1), (errors, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = [request["module"], *request["arguments"]]


def _main() -> None:
    import gc  # noqa: PLC0415 - the parent's own
    import runpy  # noqa: PLC0415

    import grpc  # noqa: F401, PLC0415 - imported here, so that no child has to

    import airside.agent.daemon  # noqa: PLC0415
    import airside.cli.main  # noqa: PLC0415
    import airside.containerd.runtime  # noqa: F401, PLC0415
    from airside.core import failpoints  # noqa: PLC0415

    die_with_parent()
    gc.collect()
    gc.freeze()
    _serve()
    failpoints.arm(os.environ.get("AIRSIDE_FAULT"))  # else done where it is imported
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
