"""Stands for the units airside-layers.socket and airside-layers@.service: no systemd is needed."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from airside.containerd.layer_writer import WORKER_COMMAND
from airside.install.layers_unit import CAPABILITIES
from support.waiting import LIMIT_SECONDS

AGENT_POWERS = (
    "setpriv",
    "--bounding-set=-all,+dac_read_search",
    "--inh-caps=-all",
    "--no-new-privs",
)
"""Begins a program with the powers of the agent's unit alone."""
_POWERS = ",".join(("-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in CAPABILITIES)))


class LayersUnit:
    """Listens; begins for each connection a worker with the unit's powers and mounts of its own.

    `mounts`: a shell command that changes the worker's mounts before it begins.
    """

    def __init__(self, path: Path, mounts: str) -> None:
        self.path, self._mounts = path, mounts
        self.workers: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.workers.append(self._begun(connection))

    def _begun(self, connection: socket.socket) -> subprocess.Popen[bytes]:
        number = connection.fileno()
        words: Sequence[str] = (
            *("unshare", "-m", "-n", "sh", "-c", f'{self._mounts or ":"} && exec "$@"', "sh"),
            *("setpriv", "--no-new-privs", f"--bounding-set={_POWERS}"),
            *(sys.executable, "-m", "airside", WORKER_COMMAND, str(number), "accepted"),
        )
        return subprocess.Popen(words, pass_fds=[number], stdin=subprocess.DEVNULL)

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.workers]

    def close(self) -> None:
        """Stops listening, and waits for the workers, whose agents must have gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(LIMIT_SECONDS)
        self._listener.close()
        for worker in self.workers:
            try:
                worker.wait(LIMIT_SECONDS)
            finally:
                worker.kill()


@contextmanager
def listening(path: Path, mounts: str = "") -> Iterator[LayersUnit]:
    unit = LayersUnit(path, mounts)
    try:
        yield unit
    finally:
        unit.close()
