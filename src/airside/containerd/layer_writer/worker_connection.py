"""The agent's end of a worker that writes layers, however the worker was begun (ADR 0046)."""

import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from airside.containerd.layer_writer.messages import (
    Outcome,
    Reply,
    Request,
    receive_reply,
    send_request,
)
from airside.core.errors import StoppedError

_POLL_SECONDS = 0.02
END_SECONDS = 10.0
"""The longest that the end of a worker is waited for."""


class WorkerConnection(ABC):
    """A socket whose other end a worker, and the child that writes, hold until they have ended.

    Not thread-safe. End it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._failed = False
        self._sock = sock

    @property
    @abstractmethod
    def is_usable(self) -> bool:
        """True if it can be given another layer."""

    @abstractmethod
    def end(self) -> None:
        """Ends the worker. Returns when nothing writes any more."""

    def write(
        self,
        request: Request,
        files: Sequence[int],
        stop: Callable[[], bool],
        seconds: float,
    ) -> Reply:
        """Has a layer written.

        `stop` is asked at once and many times a second; call `end` after an error of it. Raises
        StoppedError once it returns True: nothing writes any more then. `seconds` is the longest
        that it may take.
        """
        try:
            send_request(self._sock, self._asked(request, files), files)
            reply = self._awaited(stop, seconds)
        except (OSError, ValueError) as exc:
            reply = Reply(Outcome.FAILED, f"the process that writes layers ended: {exc}")
        reply = reply or Reply(Outcome.FAILED, "the process that writes layers ended")
        self._failed = reply.outcome is Outcome.FAILED
        return reply

    def _asked(self, request: Request, _files: Sequence[int]) -> Request:
        """Returns a request as this worker has to get it."""
        return request

    def _awaited(self, stop: Callable[[], bool], seconds: float) -> Reply | None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        for _ in range(int(seconds / _POLL_SECONDS)):
            if stop():
                self.end()
                raise StoppedError("stopped while a layer was written")
            if poll.poll(_POLL_SECONDS * 1000):
                return receive_reply(self._sock)
        self.end()
        return Reply(Outcome.DISK, f"the layer was not written within {seconds:.0f} s")

    def _await_closed(self) -> None:
        """Returns when nobody holds the other end any more. Raises OSError."""
        self._sock.settimeout(END_SECONDS)
        while self._sock.recv(1):
            pass
