"""One worker process that writes layers, as the agent sees it (ADR 0046).

A Python interpreter runs the worker without the site packages. In a frozen build `sys.executable`
is `airside` itself, which takes the program's name as its first argument (`airside.__main__`).
"""

import select
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from airside.containerd.layer_writer import WORKER_COMMAND
from airside.containerd.layer_writer.messages import (
    Outcome,
    Reply,
    Request,
    receive_reply,
    send_request,
)
from airside.core.errors import StoppedError
from airside.core.priority import Priority

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1])\n"
    "from airside.containerd.layer_writer.worker import main; main(sys.argv[2:])"
)
_POLL_SECONDS = 0.02
_END_SECONDS = 10.0


def command() -> list[str]:
    """The program and its first arguments."""
    if getattr(sys, "frozen", False):
        return [sys.executable, WORKER_COMMAND]
    place = str(Path(__file__).parents[3])  # the directory that has the package
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, place]


class WorkerProcess:
    """A running worker. Not thread-safe. Raises OSError if it cannot be started."""

    def __init__(self) -> None:
        self._failed = False
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
                self._sock.close()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        return not self._failed and self._process.poll() is None

    def write(
        self,
        request: Request,
        files: Sequence[int],
        stop: Callable[[], bool],
        seconds: float,
    ) -> Reply:
        """Has a layer written.

        `stop` is asked at once and many times a second; call `end` after an error of it. Raises
        StoppedError once it returns True: nothing writes any more then. `seconds` is the longest
        that it may take.
        """
        try:
            send_request(self._sock, request, files)
            reply = self._awaited(stop, seconds)
        except (OSError, ValueError) as exc:
            reply = Reply(Outcome.FAILED, f"the process that writes layers ended: {exc}")
        reply = reply or Reply(Outcome.FAILED, "the process that writes layers ended")
        self._failed = reply.outcome is Outcome.FAILED
        return reply

    def _awaited(self, stop: Callable[[], bool], seconds: float) -> Reply | None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        for _ in range(int(seconds / _POLL_SECONDS)):
            if stop():
                self.end()
                raise StoppedError("stopped while a layer was written")
            if poll.poll(_POLL_SECONDS * 1000):
                return receive_reply(self._sock)
        self.end()
        return Reply(Outcome.DISK, f"the layer was not written within {seconds:.0f} s")

    def end(self) -> None:
        """Kills the process, if it runs. Returns when it and its child have ended."""
        with suppress(OSError):  # the child holds the other end until it has ended
            self._process.kill()
            self._sock.settimeout(_END_SECONDS)
            while self._sock.recv(1):
                pass
        self._sock.close()
        self._process.kill()
        self._process.wait()


def started(priority: Priority) -> WorkerProcess:
    """Starts a worker with this priority, which its children inherit. Raises OSError."""
    process = WorkerProcess()
    priority.apply(process.pid)
    return process
