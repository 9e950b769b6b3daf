"""Reports that the event loop runs: to the fallback server, and to systemd.

The fallback server (`airside.agent.fallback_server`) is a small process with the agent's listening
sockets, which answers when the agent hangs. It is restarted if it ends. systemd gets reports if it
set `NOTIFY_SOCKET`; it kills an agent that is silent for `SYSTEMD_SECONDS`, and starts another: the
fallback server can't free the connections that a hanging agent had taken before.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from airside.agent import fallback_server

SYSTEMD_SECONDS = 60
_BEATS = 5
"""Beats in the time after which the agent counts as hanging."""
_END_SECONDS = 2.0
_LOG = logging.getLogger("airside.agent")


class Watchdog:
    """Beats for one set of listening sockets. `seconds`: the silence that counts as hanging."""

    def __init__(
        self, listening: Sequence[socket.socket], seconds: float, *, tls: bool = False
    ) -> None:
        self._listening, self._seconds, self._tls = listening, seconds, tls
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None

    async def run(self) -> None:
        """Beat until cancelled."""
        tell_systemd(f"WATCHDOG_USEC={SYSTEMD_SECONDS * 1_000_000}")
        try:
            while True:
                self._beat()
                tell_systemd("WATCHDOG=1")
                await asyncio.sleep(self._seconds / _BEATS)
        finally:
            self._close()
            await asyncio.to_thread(self._end)

    def _beat(self) -> None:
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        try:
            os.write(self._pipe, b".")
        except BlockingIOError:
            pass  # the pipe is full of unread beats
        except OSError:
            _LOG.warning("the fallback server ended; it is restarted")
            self._close()
            self._end()

    def _start(self) -> None:
        beats, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        numbers = [beats, *(sock.fileno() for sock in self._listening)]
        command = [sys.executable, "-I", "-S", str(Path(fallback_server.__file__))]
        command += [str(self._seconds), "tls" if self._tls else "http", *map(str, numbers)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=numbers, cwd="/"
            )
        except OSError as exc:
            _LOG.warning("no fallback server answers if the agent hangs: %s", exc)
        finally:
            os.close(beats)

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _end(self) -> None:
        """Wait for the process, which exits when the pipe is closed."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
            process.kill()
            process.wait()


def tell_systemd(text: str) -> None:
    """Notify the service manager, if one listens (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
