"""Reports the agent's state to systemd: ready, alive, stopping (sd_notify(3)).

Units that pull images are ordered after the agent, so a start is ready when the registry listens;
one that first has to repair is called ready after `PATIENCE_SECONDS`, and holds up no node. Until
the event loop beats, a thread does. A hung event loop is killed by systemd's watchdog: the fallback
server can't free the connections that a hanging agent had taken before.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

PATIENCE_SECONDS = 15.0
SYSTEMD_SECONDS = 60
"""The watchdog that the agent asks for where its unit sets none."""
_BEATS = 4
"""Beats in the time after which the agent counts as hanging."""


class ServiceManager:
    """The manager that started this process, if there is one. Thread-safe."""

    def __init__(
        self, environ: Mapping[str, str] = os.environ, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._patience_seconds = patience_seconds
        self._is_set = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "")
        self._is_set = self._is_set and usec.isdecimal() and int(usec) > 0
        self._seconds = int(usec) / 1_000_000 if self._is_set else SYSTEMD_SECONDS
        self._ready = threading.Event()

    @property
    def is_there(self) -> bool:
        return self._address.startswith(("/", "@"))

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Beats in a thread until `ready`, or until the context ends."""
        if not self.is_there:
            yield
            return
        self._tell("STATUS=opening the store and its catalog")
        thread = threading.Thread(target=self._wait, name="starting", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ready.set()
            thread.join()

    def ready(self, status: str) -> None:
        """Reports that the agent serves, in one line; `run` beats from now on."""
        self._ready.set()
        self._tell(f"READY=1\nSTATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=ending what runs")

    async def run(self) -> None:
        """Beats until cancelled."""
        if not self.is_there:
            return
        if not self._is_set:
            self._tell(f"WATCHDOG_USEC={SYSTEMD_SECONDS * 1_000_000}")
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._seconds / _BEATS)

    def _wait(self) -> None:
        """Calls a long start ready, and keeps the watchdog quiet as long as it lasts."""
        if self._ready.wait(self._patience_seconds):
            return
        self._tell("READY=1\nSTATUS=repairing after an unclean stop; serves when that is done")
        while not self._ready.wait(self._seconds / _BEATS):
            self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self.is_there:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(errors="replace"), address)
