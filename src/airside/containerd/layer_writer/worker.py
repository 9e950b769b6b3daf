"""The program that writes layers: a process of its own, of the standard library only.

It is kept warm: for each request it forks a child, which is confined to the layer's directories for
good, writes the layer, replies and ends. It ends, and its child with it, when the agent closes the
socket or dies.

Argument: the descriptor of a SOCK_SEQPACKET socket.
"""

import mmap
import os
import select
import signal
import socket
import sys
import traceback
from dataclasses import asdict
from typing import NoReturn

from airside.containerd.layer_writer import confinement
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


def serve(sock: socket.socket) -> None:
    """Serves requests until the agent is gone."""
    while True:
        found = receive_request(sock)
        if found is None:
            return
        request, files = found
        me = os.getpid()
        child = os.fork()
        if child == 0:
            _run_child(me, sock, request, files)
        for number in files:
            os.close(number)
        if not _awaited(child, sock):
            return


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
        poll.register(sock, 0)  # only its end
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
    tar, upper, *lowers = files
    bounds = confinement.Bounds(request.processor_seconds, request.memory_bytes, request.file_bytes)
    try:
        trusted = request.whiteouts == WhiteoutForm.TRUSTED.name
        root, below = confinement.confine(upper, lowers, bounds, trusted=trusted)
    except OSError as exc:
        return Reply(Outcome.FAILED, f"its process could not be confined: {exc.strerror}")
    try:
        written = _written(request, tar, root, below)
    except AirsideError as exc:
        return Reply(_outcome(exc), exc.message)
    except MemoryError:
        return Reply(Outcome.FAILED, "its process needs more memory than it may take")
    except OSError as exc:
        return Reply(Outcome.FAILED, f"its process cannot map the layer: {exc.strerror}")
    return Reply(Outcome.WRITTEN, figures=written)


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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when the agent has gone
    with socket.socket(fileno=int(arguments[0])) as sock:
        try:
            confinement.leave_network()
        except OSError as exc:
            receive_request(sock)  # what is left unread would take the reply with it
            send_reply(sock, Reply(Outcome.FAILED, f"no network of its own: {exc.strerror}"))
            return
        serve(sock)


if __name__ == "__main__":
    main(sys.argv[1:])
