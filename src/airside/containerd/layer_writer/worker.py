"""The program that writes layers: a process of its own, of the standard library only.

It is kept warm: for each request it forks a child, which is confined to the layer's directories for
good, writes the layer, replies and ends. It ends, and its child with it, when the agent closes the
socket or dies.

Arguments: the descriptor of a SOCK_SEQPACKET socket; `accepted` if systemd accepted it for the unit
airside-layers@.service. Such a worker has the network and the mounts of its unit.
"""

import errno
import mmap
import os
import select
import signal
import socket
import struct
import sys
import traceback
from dataclasses import asdict
from typing import NoReturn

from airside import __version__
from airside.containerd.layer_writer import confinement
from airside.containerd.layer_writer.directories import FLAGS
from airside.containerd.layer_writer.messages import (
    Outcome,
    Reply,
    Request,
    receive_request,
    send_reply,
)
from airside.containerd.layer_writer.target import LayerLimits, Target, WhiteoutForm
from airside.containerd.layer_writer.write import write_layer
from airside.core.errors import (
    AirsideError,
    LayerRefusedError,
    StorageFullError,
    StoreError,
    UnusualLayerError,
)

_OUTCOMES: tuple[tuple[type[AirsideError], Outcome], ...] = (
    (UnusualLayerError, Outcome.UNUSUAL),
    (LayerRefusedError, Outcome.REFUSED),
    (StorageFullError, Outcome.FULL),
    (StoreError, Outcome.DISK),
)


_CREDENTIALS = struct.Struct("iII")
"""`struct ucred`: process, user, group."""


def serve(sock: socket.socket) -> None:
    """Serves requests until the agent is gone."""
    while True:
        found = receive_request(sock)
        if found is None:
            return
        request, files = found
        if request.nice or request.io:
            _give_way(request)
        me = os.getpid()
        child = os.fork()
        if child == 0:
            _run_child(me, sock, request, files)
        for number in files:
            os.close(number)
        if not _awaited(child, sock):
            return


def _give_way(request: Request) -> None:
    """Takes the priority of a request, for this process and its children."""
    from airside.core.priority import Priority  # noqa: PLC0415 - one of the agent has it already

    Priority(request.nice, request.io).apply()


def _run_child(parent: int, sock: socket.socket, request: Request, files: list[int]) -> NoReturn:
    code = 1
    try:
        confinement.die_with(parent)
        send_reply(sock, write(request, files))
        code = 0
    except BaseException as exc:  # noqa: BLE001 - the agent logs it
        send_reply(sock, Reply(Outcome.BUG, _trace(exc)))
        code = 0
    finally:
        os._exit(code)


def _trace(error: BaseException) -> str:
    """Returns where an error came from. Reads no source: that is the layer's here."""
    places = traceback.walk_tb(error.__traceback__)
    lines = [f"{frame.f_code.co_filename}:{line}" for frame, line in places]
    return "\n".join([*lines, f"{type(error).__name__}: {error}"])


def _awaited(child: int, sock: socket.socket) -> bool:
    """Waits for the child. Kills it if the agent is gone: returns False then."""
    ended = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(sock, select.POLLRDHUP)  # only its end
        while True:
            numbers = [number for number, _ in poll.poll()]
            if ended in numbers:
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
    finally:
        os.close(ended)
    _, status = os.waitpid(child, 0)
    if status:
        send_reply(sock, _ended(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0))
    return True


def _ended(number: int) -> Reply:
    if number == signal.SIGXCPU:
        return Reply(Outcome.BEYOND, "it takes too much processor time")
    return Reply(Outcome.FAILED, f"its process ended by signal {number}")


def write(request: Request, files: list[int]) -> Reply:
    """Writes one layer, confined. Returns how it ended; raises nothing that is expected."""
    if request.version != __version__:
        return Reply(Outcome.FAILED, f"its process is of version {__version__}")
    bounds = confinement.Bounds(request.processor_seconds, request.memory_bytes, request.file_bytes)
    try:
        tar, upper, *lowers = _as_seen_here(request, files)
        trusted = request.whiteouts == WhiteoutForm.TRUSTED.name
        root, below = confinement.confine(upper, lowers, bounds, trusted=trusted)
    except OSError as exc:
        what = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
        return Reply(Outcome.FAILED, f"its process could not be confined: {what}")
    try:
        written = _written(request, tar, root, below)
    except AirsideError as exc:
        return Reply(_outcome(exc), exc.message)
    except MemoryError:
        return Reply(Outcome.FAILED, "its process needs more memory than it may take")
    except OSError as exc:
        return Reply(Outcome.FAILED, f"its process cannot map the layer: {exc.strerror}")
    return Reply(Outcome.WRITTEN, figures=written)


def _as_seen_here(request: Request, files: list[int]) -> list[int]:
    """Opens the directories among our own mounts, if the request names them. Raises OSError.

    The kernel clones no mount of another namespace. What is opened is the directory that the agent
    opened, or refused: its path alone is not believed.
    """
    if not request.directories:
        return files
    tar, *theirs = files
    found = [tar]
    for path, number in zip(request.directories, theirs, strict=True):
        ours = os.open(path, FLAGS)
        if not os.path.samestat(os.fstat(ours), os.fstat(number)):
            raise OSError(errno.ESTALE, "another directory than the agent's", path)
        os.close(number)
        found.append(ours)
    return found


def _outcome(error: AirsideError) -> Outcome:
    for kind, outcome in _OUTCOMES:
        if isinstance(error, kind):
            return outcome
    return Outcome.FAILED


def _written(request: Request, tar: int, root: int, below: list[int]) -> dict[str, int]:
    target = Target(root, tuple(below), WhiteoutForm[request.whiteouts])
    limits = LayerLimits(**request.limits)
    size_bytes = os.fstat(tar).st_size
    if not size_bytes:  # an empty file cannot be mapped
        raise UnusualLayerError("the layer is an empty file")
    with mmap.mmap(tar, size_bytes, prot=mmap.PROT_READ) as mapped:
        mapped.madvise(mmap.MADV_SEQUENTIAL)
        return asdict(write_layer(mapped, target, limits, file=tar))


def main(arguments: list[str]) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # it goes when the agent has gone
    number, *how = arguments
    with socket.socket(fileno=int(number)) as sock:
        if why := _why_not_served(sock, is_accepted=how == ["accepted"]):
            receive_request(sock)  # what is left unread would take the reply with it
            send_reply(sock, Reply(Outcome.FAILED, why))
            return
        serve(sock)


def _why_not_served(sock: socket.socket, *, is_accepted: bool) -> str:
    """Leaves the network. Returns why nothing is to be written; "" if all is well."""
    if is_accepted:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(raw)
        return "" if user == 0 else f"the other end is of user {user}, not of root"
    try:
        confinement.leave_network()
    except OSError as exc:
        return f"no network of its own: {exc.strerror}"
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
