"""A worker that writes layers as a process of the agent (ADR 0046).

A Python interpreter runs the worker without the site packages. In a frozen build `sys.executable`
is `airside` itself, which takes the program's name as its first argument (`airside.__main__`).
"""

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from airside.containerd.layer_writer import WORKER_COMMAND
from airside.containerd.layer_writer.worker_connection import WorkerConnection
from airside.core.priority import Priority

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1])\n"
    "from airside.containerd.layer_writer.worker import main; main(sys.argv[2:])"
)


def command() -> list[str]:
    """The program and its first arguments."""
    if getattr(sys, "frozen", False):
        return [sys.executable, WORKER_COMMAND]
    place = str(Path(__file__).parents[3])  # the directory that has the package
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, place]


class WorkerProcess(WorkerConnection):
    """A running worker. Not thread-safe. Raises OSError if it cannot be started."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(ours)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*command(), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                    env={},
                )
            except BaseException:
                ours.close()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        return not self._failed and self._process.poll() is None

    def end(self) -> None:
        """Kills the process, if it runs. Returns when it and its child have ended."""
        with suppress(OSError):  # the child holds the other end until it has ended
            self._process.kill()
            self._await_closed()
        self._sock.close()
        self._process.kill()
        self._process.wait()


def started(priority: Priority) -> WorkerProcess:
    """Starts a worker with this priority, which its children inherit. Raises OSError."""
    process = WorkerProcess()
    priority.apply(process.pid)
    return process
