"""Processes that the benchmark compares: the agent, and Debian's docker-registry with skopeo."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes import die_with_parent

AIRSIDE = (sys.executable, "-m", "airside")


@dataclass
class Agent:
    """A running agent with its own directories."""

    process: subprocess.Popen[bytes]
    images: Path
    data: Path
    registry: str = ""

    def get(self, path: str) -> Any:
        with contextlib.closing(_unix(self.data / "airside.sock")) as connection:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())

    def post(self, path: str, body: object) -> bytes:
        with contextlib.closing(_unix(self.data / "airside.sock")) as connection:
            connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return text

    def memory_mb(self, field: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024


def _unix(path: Path) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("localhost", timeout=600)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    return connection


@contextlib.contextmanager
def agent(
    base: Path,
    *,
    fresh: bool = True,
    seconds: float = 10,
    runtime: str = "none",
    program: tuple[str, ...] = AIRSIDE,
    **settings: str,
) -> Iterator[Agent]:
    """Run the agent on `base`; yields it once its control socket answers, and stops it."""
    images, data = base / "images", base / "data"
    if fresh:
        shutil.rmtree(base, ignore_errors=True)
    images.mkdir(parents=True, exist_ok=True)
    command = [*program, "run", "--images", images, "--data", data, "--listen", "127.0.0.1:0"]
    log = (base / "log").open("ab")
    environment = os.environ | {f"AIRSIDE_{k.upper()}": text for k, text in settings.items()}
    process = subprocess.Popen(
        [*command, "--runtime", runtime],
        stderr=log,
        env=environment,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
    )
    try:
        found = Agent(process, images, data)
        try:
            wait_until(lambda: _answers(found), seconds)
        except TimeoutError as exc:
            exc.add_note(f"the agent's log ends:\n{(base / 'log').read_text()[-3000:]}")
            raise
        found.registry = found.get("/v1/status")["listen"]
        yield found
    finally:
        stop(process)
        log.close()


def _answers(found: Agent) -> bool:
    try:
        found.get("/v1/status")
    except OSError:
        return False
    return True


def wait_until(condition, seconds: float, pause: float = 0.005) -> float:  # noqa: ANN001
    """Wait for a condition; returns the time (`perf_counter`) at which it was true."""
    end = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > end:
            raise TimeoutError
        time.sleep(pause)
    return time.perf_counter()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def head(registry: str, path: str) -> int:
    connection = http.client.HTTPConnection(registry, timeout=10)
    with contextlib.closing(connection):
        connection.request("HEAD", path)
        return connection.getresponse().status


@contextlib.contextmanager
def docker_registry(base: Path) -> Iterator[str]:
    """Run Debian's docker-registry on an empty directory; yields host:port."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = base / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {base / 'store'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
    )
    try:
        wait_until(lambda: _listens(port), 10)
        yield f"127.0.0.1:{port}"
    finally:
        stop(process)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def shell(command: str) -> float:
    """Run a shell pipeline; returns its duration in seconds."""
    started = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, capture_output=True)
    return time.perf_counter() - started
