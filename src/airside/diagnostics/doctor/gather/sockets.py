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
class Knock:
    """`pid`: the process that listens, 0 if it is not in our PID namespace."""

    state: SocketState
    reason: str = ""
    pid: int = 0


def knock(path: str) -> Knock:
    """Connects as this user, and disconnects."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a str, as gRPC takes it
            return Knock("no-socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(path)
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
    except (FileNotFoundError, NotADirectoryError):
        return Knock("absent")
    except PermissionError:
        return Knock("forbidden")
    except (TimeoutError, BlockingIOError):
        return Knock("silent", "its connection queue is full")
    except OSError as exc:
        return Knock("refused", "" if isinstance(exc, ConnectionRefusedError) else str(exc))
    return Knock("answers", pid=_CREDENTIALS.unpack(credentials)[0])
