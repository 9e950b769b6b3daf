"""What an agent and the worker that writes layers say to one another: one packet each way.

The request carries open files: the layer's tar, the directory to write into, and those below it,
the uppermost first. Both run the same code; a worker of a unit may be of another version for a
moment of an upgrade, and refuses then.
"""

import errno
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from airside import __version__

MOST_DIRECTORIES = 250
"""Of a request: the kernel passes 253 files at once."""
_REQUEST_BYTES = 128 * 1024
_REPLY_BYTES = 65536
_TEXT_CHARACTERS = 8000


class Outcome(StrEnum):
    WRITTEN = "written"
    UNUSUAL = "unusual"
    """The layer is for containerd's Apply."""
    REFUSED = "refused"
    FULL = "full"
    """The file system is full."""
    DISK = "disk"
    """The file system failed."""
    BEYOND = "beyond"
    """It took more processor time than the request allows."""
    FAILED = "failed"
    """The process could not do its work: nothing is wrong with the layer."""
    BUG = "bug"
    """The text is a traceback."""


@dataclass(frozen=True, slots=True)
class Request:
    """A layer to write: `whiteouts` is the name of one of `WhiteoutForm`."""

    whiteouts: str
    limits: dict[str, int]
    processor_seconds: int
    memory_bytes: int
    file_bytes: int
    directories: tuple[str, ...] = ()
    """For a worker with other mounts: where it finds the directories itself."""
    nice: int = 0
    io: int = 0
    """With `nice`: the priority (`core.priority`)."""
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Reply:
    """How it ended. `text`: why it was not written."""

    outcome: Outcome
    text: str = ""
    figures: dict[str, int] | None = None


def send_request(sock: socket.socket, request: Request, files: Sequence[int]) -> None:
    """Sends a request with its files. Raises OSError."""
    socket.send_fds(sock, [json.dumps(asdict(request)).encode()], files)


def receive_request(sock: socket.socket) -> tuple[Request, list[int]] | None:
    """Returns the next request; None if the agent closed its end. Raises OSError, ValueError."""
    raw, files, flags, _ = socket.recv_fds(
        sock, _REQUEST_BYTES, MOST_DIRECTORIES + 1, socket.MSG_CMSG_CLOEXEC
    )
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        for number in files:
            os.close(number)
        raise OSError(errno.EMFILE, "a request came without all of its files")
    if not raw:
        return None
    try:
        return Request(**json.loads(raw)), files
    except TypeError as exc:
        raise ValueError(f"an unknown request: {exc}") from exc


def send_reply(sock: socket.socket, reply: Reply) -> None:
    """Sends a reply. Raises OSError."""
    fields = {"outcome": reply.outcome.value, "text": reply.text[:_TEXT_CHARACTERS]}
    sock.send(json.dumps(fields | {"figures": reply.figures}).encode())


def receive_reply(sock: socket.socket) -> Reply | None:
    """Returns the reply; None if the worker ended. Raises OSError, ValueError."""
    raw = sock.recv(_REPLY_BYTES)
    if not raw:
        return None
    found = json.loads(raw)
    return Reply(Outcome(found["outcome"]), found["text"], found["figures"])
