"""HTTP/1.1 client of the running agent's control socket, `DATA/airside.sock`. Bodies are JSON.

Uses `http.client`, so that only the command `run` imports a web framework. A socket address holds
107 bytes: a longer path is opened through `/proc/self/fd`.
"""

import grp
import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from airside.cli.failure import error_from
from airside.core.errors import AirsideError, UnavailableError

SOCKET_NAME = "airside.sock"
ANSWER_SECONDS = 30.0
_ADDRESS_BYTES = 107


class NoAgentError(UnavailableError):
    """No agent listens on the data directory's socket."""

    code = "no_agent"


class SilentAgentError(UnavailableError):
    """An agent has the data directory, and did not answer in time."""

    code = "agent_silent"


class NotPermittedError(UnavailableError):
    """The operating system denies this user the agent's socket or the catalog."""

    code = "not_permitted"
    retryable = False


class ControlClient:
    """Sends requests to the agent of one data directory, each over a new connection.

    All methods raise NoAgentError, NotPermittedError, UnavailableError, and errors of the agent.
    """

    def __init__(self, data: Path) -> None:
        self._data = data

    def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        timeout_seconds: float = ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """Returns the JSON object at this path."""
        return self._object("GET", path, query, None, timeout_seconds)

    def post(
        self, path: str, body: object, *, timeout_seconds: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Posts `body` as JSON. Returns the JSON object of the response."""
        return self._object("POST", path, None, body, timeout_seconds)

    def _object(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        timeout_seconds: float,
    ) -> dict[str, Any]:
        with closing(_Connection(self._data, timeout_seconds)) as connection:
            try:
                value = json.loads(self._answer(connection, method, path, query, body).read())
            except (OSError, ValueError, http.client.HTTPException) as exc:
                raise self._broken(exc) from exc
        if not isinstance(value, dict):
            raise UnavailableError(f"the agent's response to {path} is not a JSON object")
        return value

    def iter_lines(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        *,
        begin_seconds: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yields the JSON object of each line as it arrives. May block without a time limit.

        `begin_seconds`: the longest wait for the beginning of the answer.
        """
        with closing(_Connection(self._data, begin_seconds)) as connection:
            try:
                connection.connect()
                stream = connection.sock
                answer = self._answer(connection, method, path, query, body)
                stream.settimeout(None)
                while line := answer.readline():
                    yield json.loads(line)
            except (OSError, ValueError, http.client.HTTPException) as exc:
                raise self._broken(exc) from exc

    def follow(
        self, path: str, body: object, progress: Callable[[int, int], None], what: str
    ) -> dict[str, Any]:
        """Starts a long task of the agent and returns its result.

        Calls `progress` with (bytes done, bytes in total). `what` names the task in the error that
        is raised when the agent ends the stream without a result.
        """
        for line in self.iter_lines("POST", path, body=body, begin_seconds=ANSWER_SECONDS):
            if "result" in line:
                result: dict[str, Any] = line["result"]
                return result
            if "error" in line:
                raise error_from(line["error"])
            progress(line["done_bytes"], line["total_bytes"])
        raise UnavailableError(f"the agent ended {what} without a result: see the log of the agent")

    def _answer(
        self,
        connection: "_Connection",
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
    ) -> http.client.HTTPResponse:
        given = {k: v for k, v in (query or {}).items() if v is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        connection.request(method, target, content, headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise _error_of(answer, target)
        return answer

    def _broken(self, exc: Exception) -> AirsideError:
        if isinstance(exc, TimeoutError):
            return _silent(self._data)
        reason = str(exc) or repr(exc)
        return UnavailableError(f"incomplete response from the agent of {self._data}: {reason}")


def _error_of(answer: http.client.HTTPResponse, target: str) -> AirsideError:
    with suppress(ValueError):
        value = json.loads(answer.read())
        if isinstance(value, dict) and "error" in value:
            return error_from(value["error"])
    return UnavailableError(f"the agent answered {answer.status} {answer.reason} to {target}")


class _Connection(http.client.HTTPConnection):
    def __init__(self, data: Path, timeout_seconds: float | None) -> None:
        super().__init__("airside", timeout=timeout_seconds)
        self._data = data

    def connect(self) -> None:
        self.sock = connect_control(self._data, self.timeout)


def connect_control(data: Path, timeout_seconds: float | None) -> socket.socket:
    """Connects to the agent's socket. Raises NoAgentError, NotPermittedError, UnavailableError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        _connect(connection, data)
    except BaseException as exc:
        connection.close()
        if isinstance(exc, OSError):
            raise _translated(exc, data) from exc
        raise
    return connection


def _connect(connection: socket.socket, data: Path) -> None:
    path = data / SOCKET_NAME
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        connection.connect(os.fspath(path))
        return
    directory = os.open(data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
    finally:
        os.close(directory)


def _translated(exc: OSError, data: Path) -> AirsideError:
    path = data / SOCKET_NAME
    if isinstance(exc, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
        return NoAgentError(
            f"no agent runs on {data}",
            path=path,
            hint=f"start it (airside run --data {data}), or pass its directory with --data",
        )
    if isinstance(exc, TimeoutError | BlockingIOError):  # its queue of connections is full
        return _silent(data)
    if isinstance(exc, PermissionError):
        return NotPermittedError(
            f"permission denied: cannot connect to the agent at {path}",
            path=path,
            hint=_who_may(path),
        )
    return UnavailableError(
        f"cannot connect to the agent at {path}: {exc.strerror or exc}", path=path
    )


def _silent(data: Path) -> SilentAgentError:
    return SilentAgentError(
        f"the agent of {data} does not answer: it hangs, or its disk does",
        path=data / SOCKET_NAME,
        hint="see its log; if it hangs, restart it: no data is lost",
    )


def _who_may(path: Path) -> str:
    with suppress(OSError):  # the socket itself cannot be seen from outside
        found = path.parent.stat()
        if found.st_mode & 0o010 and found.st_gid:
            group = _group_name(found.st_gid)
            return f"run the command as root (sudo) or as a member of the group {group}"
    return "run the command as root (sudo) or as the user of the agent"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
