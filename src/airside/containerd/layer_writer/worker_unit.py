"""A worker that writes layers as a unit of systemd of its own, begun by connecting (ADR 0046).

The unit airside-layers@.service has the powers that writing needs, so that the agent, which speaks
to the network, needs none of them. It sees the host's directories through mounts of its own.
"""

import logging
import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from airside.containerd.layer_writer import confinement
from airside.containerd.layer_writer.messages import Request
from airside.containerd.layer_writer.worker_connection import END_SECONDS, WorkerConnection
from airside.core.priority import Priority

log = logging.getLogger("airside.containerd")

SOCKET = Path("/run/airside/layers.sock")
_STATUS = Path("/proc/self/status")


class UnitWorker(WorkerConnection):
    """A worker of the unit, with this priority. Raises OSError if nobody listens."""

    def __init__(self, path: Path, priority: Priority) -> None:
        self._priority = priority
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(str(path))
        except BaseException:
            sock.close()
            raise
        super().__init__(sock)

    @property
    def is_usable(self) -> bool:
        if self._failed or self._sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)  # it says nothing unasked, but its end

    def _asked(self, request: Request, files: Sequence[int]) -> Request:
        _, *directories = files
        return replace(
            request,
            directories=tuple(str(Path(f"/proc/self/fd/{n}").readlink()) for n in directories),
            nice=self._priority.nice,
            io=self._priority.io,
        )

    def end(self) -> None:
        """Ends the worker. Returns when it and its child have ended: they hold the other end."""
        try:
            with suppress(OSError):  # it is closed already
                self._sock.shutdown(socket.SHUT_WR)
            self._await_closed()
        except TimeoutError:
            log.warning("a process of airside-layers@.service runs after %.0f s", END_SECONDS)
        except OSError:
            pass  # closed with something unread
        finally:
            self._sock.close()


def is_needed(path: Path) -> bool:
    """Returns True if this process has not the powers to run a worker, and a unit listens here."""
    return not _has_powers() and path.is_socket() and os.access(path, os.W_OK)


def _has_powers() -> bool:
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
        [line] = [line for line in text.splitlines() if line.startswith("CapEff:")]
        effective = int(line.split()[1], 16)
    except (OSError, ValueError):
        return True  # the proof tells
    return all(effective >> number & 1 for number in confinement.WORKER_CAPABILITIES)
