"""Checks if the client of a TCP connection to us is the containerd of a socket.

Linux shows which process listens on a Unix socket (SO_PEERCRED), which sockets the network
namespace of a process has (`/proc/<pid>/net/tcp`), and which of them the process has open
(`/proc/<pid>/fd`).

The answer is True where that is hidden (processes of another namespace, no permission): see
`read_through`. Another process of this machine, `ctr` for instance, is not containerd.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from airside.ports.content import Connection

_CONNECT_SECONDS = 0.2
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_INODE_COLUMN = 9


def is_peer(unix_socket: str, connection: Connection) -> bool:
    """Returns True if the process that listens on `unix_socket` is the client of the connection."""
    ends = _end(*connection.client), _end(*connection.server)
    if ends[0][0] != ends[1][0]:
        return False  # another machine; our own connections have one address at both ends
    try:
        pid = _listener(unix_socket)
        process = Path("/proc", str(pid))
        lines = [
            line
            for name in ("tcp", "tcp6")
            for line in (process / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        ]
        inode = find_inode(lines, *ends)
        return inode is not None and _has_open(process, inode)
    except OSError:
        return True


def find_inode(lines: Iterable[str], local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Returns the inode of the socket with these ends, from lines of `/proc/net/tcp` or `tcp6`."""
    for line in lines:
        columns = line.split()
        if parse_end(columns[1]) == local and parse_end(columns[2]) == remote:
            return int(columns[_INODE_COLUMN])
    return None


def parse_end(text: str) -> tuple[str, int]:
    """Returns (address, port) of `0100007F:13BA`: words in the machine's byte order."""
    words, _, port = text.partition(":")
    values = [int(words[n : n + 8], 16) for n in range(0, len(words), 8)]
    packed = struct.pack(f"={len(values)}I", *values)
    return _end(str(ipaddress.ip_address(packed)), int(port, 16))


def _end(address: str, port: int) -> tuple[str, int]:
    """Returns one spelling of an end: an IPv4 address may be written as an IPv6 one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), port


def _listener(unix_socket: str) -> int:
    """Returns the process that listens on a socket. Raises OSError."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connected:
        connected.settimeout(_CONNECT_SECONDS)
        connected.connect(unix_socket)
        found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(found)[0]
    if not pid:
        raise ProcessLookupError(
            f"the process that listens on {unix_socket} is in another PID namespace"
        )
    return pid


def _has_open(process: Path, inode: int) -> bool:
    """Returns True if the process has the socket open. Raises OSError if that is not visible."""
    wanted = f"socket:[{inode}]"
    for name in os.listdir(process / "fd"):  # noqa: PTH208 - names are what is wanted
        try:
            if os.readlink(process / "fd" / name) == wanted:  # noqa: PTH115 - it is no path
                return True
        except FileNotFoundError:  # closed meanwhile
            continue
    return False
