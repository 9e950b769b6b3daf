"""The fallback server as a child process: started, fed with beats, watched, started again.

`airside.agent.fallback_server` is a program of its own. With a Python interpreter, that interpreter
runs the file without the site packages. In a frozen build `sys.executable` is `airside` itself,
which takes the program's name as its first argument (`airside.__main__`).

The server echoes the beats. It counts as running only after its first echo, so a program that
started and did something else is not mistaken for it.
"""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from airside.agent import FALLBACK_COMMAND, fallback_server

_END_SECONDS = 2.0
_MOST_UNHEARD = 30
"""Beats without an echo after which the server counts as hanging."""
_LONGEST_PAUSE = 60
"""Beats until the next start after many failures."""
_ECHO_BYTES = 4096
_LOG = logging.getLogger("airside.agent")


def command() -> list[str]:
    """The program and its first arguments."""
    if getattr(sys, "frozen", False):
        return [sys.executable, FALLBACK_COMMAND]
    return [sys.executable, "-I", "-S", str(Path(fallback_server.__file__))]


class FallbackProcess:
    """At most one process for a set of listening sockets. Not thread-safe."""

    def __init__(self, listening: Sequence[socket.socket], seconds: float, *, tls: bool) -> None:
        self._listening, self._seconds, self._tls = listening, seconds, tls
        self._process: subprocess.Popen[bytes] | None = None
        self._beats: int | None = None
        self._echoes: int | None = None
        self._unheard = 0
        self._failures = 0
        self._pause = 0
        self._state = "starting"
        self._reason = ""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def describe(self) -> dict[str, Any]:
        """Returns the fallback server's part of `status`, as docs/cli.md describes it."""
        return {"state": self._state, "pid": self.pid, "reason": self._reason}

    def beat(self) -> None:
        """Send a beat. Starts the process if it has none, and replaces one that hangs."""
        if self._process is None and not self._started():
            return
        self._listen()
        assert self._beats is not None
        try:
            os.write(self._beats, b".")
        except BlockingIOError:
            pass  # the pipe is full of unread beats
        except OSError:
            self._failed(self._outcome())
            return
        self._unheard += 1
        if self._unheard > _MOST_UNHEARD:
            self._failed(f"it did not answer {_MOST_UNHEARD} beats")

    def close(self) -> None:
        """Close the pipe, at which the process exits. Call `end` afterwards."""
        for number in (self._beats, self._echoes):
            if number is not None:
                os.close(number)
        self._beats = self._echoes = None

    def end(self) -> None:
        """Wait for the process; kill it after 2 s. Blocking."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
            process.kill()
            process.wait()

    def _started(self) -> bool:
        if self._pause:
            self._pause -= 1
            return False
        heard, self._beats = os.pipe()
        self._echoes, echo = os.pipe()
        for number in (self._beats, self._echoes, echo):
            os.set_blocking(number, False)
        numbers = [heard, *(sock.fileno() for sock in self._listening)]
        words = [str(self._seconds), "tls" if self._tls else "http", *map(str, numbers)]
        self._unheard = 0
        try:
            self._process = subprocess.Popen(
                [*command(), *words],
                stdin=subprocess.DEVNULL,
                stdout=echo,
                pass_fds=numbers,
                cwd="/",
            )
        except OSError as exc:
            self._failed(f"it could not be started: {exc}")
        finally:
            os.close(heard)
            os.close(echo)
        return self._process is not None

    def _listen(self) -> None:
        assert self._echoes is not None
        try:
            heard = os.read(self._echoes, _ECHO_BYTES)
        except BlockingIOError:
            return
        if not heard:
            return  # it ended: the next write says so
        if self._state == "failed":
            _LOG.info("the fallback server runs again, process %s", self.pid)
        self._unheard = self._failures = 0
        self._state, self._reason = "running", ""

    def _outcome(self) -> str:
        """How the process ended, which closed its end of the pipe."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_SECONDS)
            return f"it ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"
        return "it closed its pipe"

    def _failed(self, reason: str) -> None:
        """Report the failure, and plan the next start: at the next beat, then ever later."""
        self.close()
        if self._process is not None:
            self._process.kill()
            self.end()
        self._pause = min(2**self._failures - 1, _LONGEST_PAUSE)
        self._failures += 1
        if reason != self._reason:
            _LOG.warning(
                "no fallback server answers if the agent hangs: %s; it is restarted", reason
            )
        self._state, self._reason = "failed", reason
