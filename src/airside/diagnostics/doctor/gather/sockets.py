"""Checks whether a process listens on a socket, and which. Sends no data. Blocking."""

import os
import socket
import stat
import struct
from dataclasses import dataclass

from airside.diagnostics.doctor.facts import SocketState
from airside.diagnostics.doctor.gather.bounded import ANSWER_SECONDS

_CREDENTIALS = struct.Struct("3i")
"""unix(7), SO_PEERCRED: pid, uid, gid of the process that listens."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The state of a socket. `pid`: the process that listens, 0 outside our PID namespace."""

    state: SocketState
    reason: str = ""
    pid: int = 0


def probe(path: str) -> Probe:
    """Connects as this user, and disconnects."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a str, as gRPC takes it
            return Probe("no-socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(path)
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
    except (FileNotFoundError, NotADirectoryError):
        return Probe("absent")
    except PermissionError:
        return Probe("forbidden")
    except (TimeoutError, BlockingIOError):
        return Probe("silent", "its connection queue is full")
    except OSError as exc:
        return Probe("refused", "" if isinstance(exc, ConnectionRefusedError) else str(exc))
    return Probe("answers", pid=_CREDENTIALS.unpack(credentials)[0])
