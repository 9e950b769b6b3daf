"""The user at the other end of the control socket, as the kernel knows them (unix(7))."""

import os
import socket
import struct

from aiohttp import web

from airside.archive.beneath import Credentials
from airside.core.errors import RequestInvalidError

_CREDENTIALS = struct.Struct("=iII")
_SO_PEERGROUPS = 59
_MAX_GROUPS_BYTES = 1024
"""The most that Python reads of a socket option: 256 groups."""


def asker_of(request: web.Request) -> Credentials | None:
    """Returns whose rights hold for files that the request names; None: the agent's own.

    The agent's own rights hold for root and for the agent's user. Raises RequestInvalidError if the
    kernel does not tell who asks.
    """
    connection = request.get_extra_info("socket")
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, gid = _CREDENTIALS.unpack(raw)
        if uid in {0, os.geteuid()}:
            return None
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except (AttributeError, OSError) as exc:
        raise RequestInvalidError(
            "the kernel does not tell the user and groups of who asks: run the command as root"
        ) from exc
    return Credentials(uid, gid, struct.unpack(f"={len(raw) // 4}I", raw))
