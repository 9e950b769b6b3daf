"""One connection to containerd: calls by method name, in a namespace and under a lease.

Synchronous and thread-safe. gRPC reconnects by itself, with back-off; while containerd is away each
call raises at once. gRPC errors are translated here, once: NOT_FOUND → NotFoundError,
ALREADY_EXISTS → ConflictError, all others → ContainerdError.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from airside.core.errors import (
    AirsideError,
    ConflictError,
    ContainerdError,
    NotFoundError,
    StoppedError,
)

CALL_SECONDS = 60.0
"""The longest wait for an answer, unless the call names another."""
TRANSFER_SECONDS = 1800.0
"""The longest wait for a call that transfers or unpacks a blob."""
_RECEIVE_BYTES = 64 * 1024 * 1024
"""The largest answer: a list of 10,000 images is 8 MB."""
_BACKOFF_MS = (100, 2000)
_STOP_POLL_SECONDS = 0.01
"""Between two looks at `stop`, which looks at the free space too while a layer is unpacked."""
_CONNECT_MS = 5000
"""The longest wait for a connection. For gRPC it is also the least back-off before a reconnect."""
_LOOK_SECONDS = 0.02
"""Between two looks at `stop` while a call is awaited."""

Answer = TypeVar("Answer", bound=Message)


class Channel:
    """A channel to the socket of a containerd. Close it, or use it in `with`.

    `patience_seconds` caps the wait for every answer.
    """

    def __init__(
        self, socket: str, namespace: str = "k8s.io", *, patience_seconds: float | None = None
    ) -> None:
        self.socket, self.namespace = socket, namespace
        self._patience_seconds = patience_seconds
        self._channel = grpc.insecure_channel(
            f"unix:{socket}",
            options=[
                ("grpc.max_receive_message_length", _RECEIVE_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.initial_reconnect_backoff_ms", _BACKOFF_MS[0]),
                ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
                ("grpc.max_reconnect_backoff_ms", _BACKOFF_MS[1]),
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.default_authority", "localhost"),
            ],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all calls and the connection."""
        self._channel.close()

    def call(
        self,
        method: str,
        request: Message,
        answer: type[Answer],
        *,
        lease: str = "",
        namespace: str = "",
        seconds: float = CALL_SECONDS,
        stop: Callable[[], bool] | None = None,
    ) -> Answer:
        """Calls `package.Service/Method` and returns its answer.

        `stop` is polled during a long call. Raises StoppedError once it returns True.
        """
        stub = self._channel.unary_unary(f"/{method}", _bytes_of, answer.FromString)
        metadata, wait = self._metadata(lease, namespace), self._wait(seconds)
        with translated(method, wait):
            found: Answer
            if stop is None:
                found = stub(request, timeout=wait, metadata=metadata)
            else:
                found = _awaited(stub.future(request, timeout=wait, metadata=metadata), stop)
        return found

    def call_until(
        self,
        method: str,
        request: Message,
        answer: type[Answer],
        *,
        stop: Callable[[], bool],
        seconds: float,
    ) -> Answer:
        """Calls as `call` does. On `stop` cancels the call, in containerd too: StoppedError."""
        stub = self._channel.unary_unary(f"/{method}", _bytes_of, answer.FromString)
        with translated(method, seconds):
            future = stub.future(request, timeout=seconds, metadata=self._metadata("", ""))
        try:
            with translated(method, seconds):
                while not stop():
                    with contextlib.suppress(grpc.FutureTimeoutError):
                        found: Answer = future.result(timeout=_LOOK_SECONDS)
                        return found
        finally:
            future.cancel()
        raise StoppedError(f"containerd: {method.rpartition('.')[2]} was stopped")

    def read(
        self,
        method: str,
        request: Message,
        answer: type[Answer],
        *,
        seconds: float | None = CALL_SECONDS,
        namespace: str = "",
    ) -> Iterator[Answer]:
        """Calls a method that streams its answers. Closing the iterator ends the call."""
        stub = self._channel.unary_stream(f"/{method}", _bytes_of, answer.FromString)
        wait, metadata = self._wait(seconds), self._metadata("", namespace)
        with translated(method, wait):
            call = stub(request, timeout=wait, metadata=metadata)
        try:
            with translated(method, wait):
                yield from call
        finally:
            call.cancel()

    def write(
        self,
        method: str,
        requests: Iterable[Message],
        answer: type[Answer],
        *,
        lease: str = "",
        seconds: float | None = CALL_SECONDS,
    ) -> list[Answer]:
        """Calls a method that streams both ways. Returns all answers, read to the end."""
        stub = self._channel.stream_stream(f"/{method}", _bytes_of, answer.FromString)
        wait, metadata = self._wait(seconds), self._metadata(lease, "")
        with translated(method, wait):
            call = stub(iter(requests), timeout=wait, metadata=metadata)
        try:
            with translated(method, wait):
                return list(call)
        finally:
            call.cancel()

    def _wait(self, seconds: float | None) -> float | None:
        limits = [limit for limit in (seconds, self._patience_seconds) if limit is not None]
        return min(limits, default=None)

    def _metadata(self, lease: str, namespace: str) -> tuple[tuple[str, str], ...]:
        found = (("containerd-namespace", namespace or self.namespace),)
        return (*found, ("containerd-lease", lease)) if lease else found


def _awaited(call: "grpc.Future[Answer]", stop: Callable[[], bool]) -> Answer:
    while True:
        try:
            return call.result(timeout=_STOP_POLL_SECONDS)
        except grpc.FutureTimeoutError:
            if stop():
                call.cancel()
                raise StoppedError("stopped while waiting for containerd") from None


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()


@contextlib.contextmanager
def translated(method: str, seconds: float | None = None) -> Iterator[None]:
    """Translates a gRPC error into one of ours that names the call and containerd's message.

    One that never reached containerd is a plain sentence instead. `seconds`: the time limit.
    """
    try:
        yield
    except grpc.RpcError as exc:
        raise _translate(method, exc, seconds) from exc
    except ValueError as exc:  # gRPC's word for a channel that is closed
        raise ContainerdError(_CLOSED, status="CANCELLED") from exc


_CLASSES: dict[str, type[AirsideError]] = {
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": ConflictError,
}


_CLOSED = "the connection to containerd was closed"
_AWAY = (
    ("No such file or directory", "containerd does not run: its socket does not exist"),
    ("Connection refused", "containerd does not run: nothing listens on its socket"),
    ("Permission denied", "this user may not connect to the socket of containerd"),
    ("HTTP/2", "what listens on the socket is no containerd"),
    ("target uri", "the path of the socket is too long: 107 bytes are allowed"),
    ("failed to connect", "containerd does not accept connections: it stops or starts"),
)
"""By a word of gRPC's text, which is for those who debug gRPC, a sentence for operators."""
_OF_GRPC = re.compile(
    "failed to connect to all|connections to all|recvmsg|sendmsg|socket closed|stream removed"
    "|goaway|connection reset|broken pipe|cancelling all|keepalive|received rst_stream|end of tcp"
    "|error reading server preface|transport is closing|ping timeout|endpoint closing"
    "|failed to create channel",
    re.IGNORECASE,
)
"""How the texts begin that come from gRPC in this process. Others are containerd's own."""


def _away(status: str, details: str, call: str, seconds: float | None) -> str:
    """Returns why containerd was not reached, as one sentence; "" if it answered."""
    if status == "DEADLINE_EXCEEDED":
        limit = f" within {seconds:.3g} s" if seconds is not None else " in time"
        return f"containerd did not answer{limit} ({call})"
    if status == "CANCELLED":
        return _CLOSED
    if not _OF_GRPC.match(details):
        return ""
    for word, sentence in _AWAY:
        if word in details:
            return sentence
    return "containerd ended the connection: it stops or restarts"


def _translate(method: str, exc: grpc.RpcError, seconds: float | None) -> AirsideError:
    status = exc.code().name if isinstance(exc, grpc.Call) else "UNKNOWN"
    details = (exc.details() or "") if isinstance(exc, grpc.Call) else str(exc)
    service, _, name = method.rpartition("/")
    call = f"{service.rpartition('.')[2]}.{name}"
    if away := _away(status, details, call, seconds):
        return ContainerdError(away, status=status)
    error = _CLASSES.get(status, ContainerdError)
    return error(f"containerd: {call}: {details or status}", status=status)
