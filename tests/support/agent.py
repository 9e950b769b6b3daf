"""The agent as a process: started, asked over its control socket, stopped or killed.

Every wait is bounded, and no process is left behind: the agent dies with the test's process, and
leaving the `with` block stops it (asserting that it stops well) unless the test failed.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote

from support import warm
from support.host import without_settings
from support.processes import die_with_parent
from support.program import PROGRAM, command
from support.schemas import check_report
from support.waiting import LIMIT_SECONDS, wait_until

SOCKET = "airside.sock"

QUICK = {
    "AIRSIDE_SETTLE_SECONDS": "0.1",
    "AIRSIDE_QUIET_SECONDS": "0.6",
    "AIRSIDE_REMOVAL_SECONDS": "0.3",
    "AIRSIDE_MIN_FREE_BYTES": "0",
    "AIRSIDE_LOW_SPACE_BYTES": "0",
}
"""Shorter waits than the defaults, for tests that are not about them."""


class Agent:
    """One agent over `images` (a directory or several) and `data`.

    `environ`: `AIRSIDE_*` settings besides `QUICK`, by their whole names; None takes one out.
    `tables`: what the `[[images]]` tables say besides the path, for instance `strict = true`.
    `config`: TOML that stands before them. `fault`: the value of `AIRSIDE_FAULT`. `before`: a
    command that runs the agent's, such as `["setpriv", …]`; `["env"]` for a fresh interpreter.
    Started by `with` or `start()`; may be started again after it ended.
    """

    def __init__(
        self,
        images: Path | Sequence[Path],
        data: Path,
        *,
        environ: Mapping[str, str | None] | None = None,
        tables: Mapping[str, str | bool] | None = None,
        config: str = "",
        fault: str | None = None,
        flags: Sequence[str] = (),
        before: Sequence[str] = (),
        listen: str = "127.0.0.1:0",
    ) -> None:
        self.images_paths = [images] if isinstance(images, Path) else list(images)
        self.data = data
        self.environ = environ or {}
        self.tables, self.config = tables or {}, config
        self.fault = fault
        self.flags, self.before, self.listen = list(flags), list(before), listen
        self.log_path = data.with_name(data.name + ".log")
        self.ready_seconds = 0.0
        self._process: subprocess.Popen[bytes] | warm.WarmProcess | None = None
        self._log_start = 0

    # its life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None and self.is_running:
            self.stop()
            return
        self.kill()
        if error is not None:
            error.add_note(f"the agent's log ends:\n{self.log[-3000:]}")

    def start(self) -> Self:
        """Start the process and wait until its control socket answers."""
        self.launch()
        started_at = time.monotonic()
        try:
            self.wait_for(self._answers, what="the control socket answers")
        except BaseException:
            self.kill()
            raise
        self.ready_seconds = time.monotonic() - started_at
        return self

    def launch(self) -> None:
        """Start the process only: one with a fault may never be ready."""
        assert not self.is_running
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = self._cold(log) if self.before or PROGRAM else self._warm(log)

    def _warm(self, log: BinaryIO) -> warm.WarmProcess:
        return warm.start(
            "airside", self.arguments(), environ=self._environment(), output=log.fileno()
        )

    def _cold(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # closed by kill() and stop()
            [*self.before, *command(), *self.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it only makes one system call
        )

    def arguments(self) -> list[str]:
        words = ["run"]
        if self.tables or self.config:
            words += ["--config", str(self._write_config())]
        else:
            for path in self.images_paths:
                words += ["--images", str(path)]
        words += ["--data", str(self.data), "--listen", self.listen]
        return [*words, "--runtime", "none", "--log-format", "json", *self.flags]

    def _write_config(self) -> Path:
        lines = [self.config]
        for path in self.images_paths:
            lines += ["[[images]]", f"path = {json.dumps(str(path))}"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in self.tables.items()]
        file = self.data.with_name(self.data.name + ".toml")
        file.write_text("\n".join(lines) + "\n")
        return file

    def _environment(self) -> dict[str, str]:
        found = without_settings()
        settings: dict[str, str | None] = {**QUICK, **self.environ, "AIRSIDE_FAULT": self.fault}
        return found | {k: v for k, v in settings.items() if v is not None}

    @property
    def watched(self) -> Path:
        """The first watched directory."""
        return self.images_paths[0]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def peak_bytes(self) -> int:
        """Returns the most memory that it had resident: VmHWM of proc(5)."""
        found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_exit(self, seconds: float = LIMIT_SECONDS) -> int:
        """Wait until the process ends by itself; gives its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, as a power cut; nothing happens if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(LIMIT_SECONDS)

    def stop(self) -> None:
        """SIGTERM; it must end well within 5 s."""
        assert self._process is not None
        assert self.is_running, f"the agent ended by itself:\n{self.log[-3000:]}"
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end {LIMIT_SECONDS} s after SIGTERM\n{self.log}") from None
        assert code == 0, f"exit code {code} after SIGTERM\n{self.log[-3000:]}"

    def restart(self) -> Self:
        self.stop()
        return self.start()

    # what it says

    @property
    def log(self) -> str:
        """What was logged since the last start."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_bytes()[self._log_start :].decode(errors="replace")
        return ""

    def logged(self, *levels: str) -> list[str]:
        """Messages of these levels since the last start; what is no JSON counts as an error."""
        found: list[str] = []
        for line in self.log.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                value = {"level": "error", "message": line}
            if value["level"] in levels:
                found.append(value["message"])
        return found

    def complaints(self) -> list[str]:
        return self.logged("warning", "error", "critical")

    def ask(self, path: str, *, method: str = "GET", body: object = None) -> Any:
        """Ask the control socket; gives the JSON object, or a list where the answer is NDJSON."""
        with contextlib.closing(ControlConnection(self.data)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
            if answer.getheader("Content-Type", "").startswith("application/x-ndjson"):
                return [json.loads(line) for line in data.splitlines()]
            assert answer.status == 200, (answer.status, data)
            value = json.loads(data)
            check_report(path, value)
            return value

    def status(self) -> dict[str, Any]:
        return dict(self.ask("/v1/status"))

    def images(self) -> dict[str, dict[str, Any]]:
        """By reference."""
        return {item["reference"]: item for item in self.ask("/v1/images")["items"]}

    def archives(self) -> dict[Path, dict[str, Any]]:
        """By path."""
        page = self.ask("/v1/archives")
        items = page["items"]
        while page["next"] is not None:
            page = self.ask(f"/v1/archives?after={page['next']}")
            items += page["items"]
        return {Path(item["path"]): item for item in items}

    def events(self, *kinds: str, path: Path | None = None, after: int = 0) -> list[dict[str, Any]]:
        """Oldest first, at most the last 1000; only of these kinds and of this path, if given."""
        items = self.ask(f"/v1/events?limit=1000&after={after}")["items"]
        return [
            item
            for item in items
            if (not kinds or item["kind"] in kinds) and path in (None, Path(item["path"] or "/"))
        ]

    def import_file(self, path: Path) -> dict[str, Any]:
        """Import by hand and wait; gives the last line: `{"result": …}` or `{"error": …}`."""
        lines = self.ask("/v1/import", method="POST", body={"path": str(path)})
        return dict(lines[-1])

    @property
    def registry(self) -> str:
        """HOST:PORT."""
        return str(self.status()["listen"])

    def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        """Ask the registry, for instance for `/v2/…/manifests/1`: status and body."""
        host, _, port = self.registry.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_SECONDS)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, quote(path, safe="/:?=&@"), headers=named)
            answer = connection.getresponse()
            return answer.status, answer.read()

    # waiting

    def _answers(self) -> bool:
        assert self.is_running, f"the agent ended at its start:\n{self.log[-3000:]}"
        try:
            return bool(self.status()["running"])
        except OSError:
            return False

    def wait_for(self, predicate: Callable[[], Any], *, what: str = "") -> Any:
        """Ask again and again until it gives something true, and return that."""

        def now() -> str:
            found = ""
            with contextlib.suppress(OSError, AssertionError):
                found = json.dumps(list(self.archives().values()), indent=1)[-3000:]
            return f"{what}\n{found}\n{self.log[-3000:]}"

        return wait_until(predicate, now)

    def wait_idle(self) -> None:
        """Wait until nothing is under way: what was done before has had all its effects."""
        self.wait_for(lambda: self.status()["activity"]["idle"], what="it is idle")

    def now(self) -> int:
        """The number of the newest event: what comes `after` it is new."""
        events = self.events()
        return int(events[-1]["id"]) if events else 0

    def wait_state(self, path: Path, *states: str, after: int = 0) -> dict[str, Any]:
        """Wait until the archive is in one of these states; gives it as `archives` shows it.

        With `after`, it must have come to it since that event, as after a replacement.
        """

        def reached() -> dict[str, Any] | None:
            if after and not self.events(*states, path=path, after=after):
                return None
            found = self.archives().get(path)
            return found if found is not None and found["state"] in states else None

        found = self.wait_for(reached, what=f"{path.name} is {' or '.join(states)}")
        return dict(found)

    def wait_imported(self, *paths: Path, after: int = 0) -> None:
        """Wait until all these archives are imported; one that cannot be fails at once."""
        for path in paths:
            judged = ("imported", "partial", "rejected")
            found = self.wait_state(path, *judged, after=after)
            assert found["state"] == "imported", found


class ControlConnection(http.client.HTTPConnection):
    """HTTP over the control socket, whatever the length of its path."""

    def __init__(self, data: Path) -> None:
        super().__init__("localhost", timeout=LIMIT_SECONDS)
        self._data = data

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LIMIT_SECONDS)
        descriptor = os.open(self._data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
        except BaseException:
            self.sock.close()
            raise
        finally:
            os.close(descriptor)
