"""A Docker daemon of our own, of any Debian release, on a directory of its own. Needs root.

Without network, cgroups or mounts: it only loads, builds from scratch, and saves.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from support.debian import UnreachableError
from support.processes import die_with_parent
from support.waiting import LIMIT_SECONDS, wait_until


class Docker:
    """Its command line. `buildx` is there if that package's directory was given."""

    def __init__(self, roots: list[Path], environ: Mapping[str, str]) -> None:
        self._roots, self.environ = roots, environ
        self.daemon: subprocess.Popen[bytes] | None = None

    def program(self, name: str) -> Path:
        places = ("usr/bin", "usr/sbin", "usr/libexec/docker/cli-plugins")
        found = [root / place / name for root in self._roots for place in places]
        return next(path for path in found if path.exists())

    def __call__(self, *words: object) -> str:
        return self._run("docker", *words)

    def buildx(self, *words: object) -> str:
        return self._run("docker-buildx", *words)

    def _run(self, name: str, *words: object) -> str:
        done = subprocess.run(
            [self.program(name), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
            env=self.environ,
        )
        assert done.returncode == 0, (name, words, done.stderr)
        return done.stdout


@contextlib.contextmanager
def docker(*roots: Path, containerd_store: bool = False) -> Iterator[Docker]:
    """Run `dockerd` of the packages unpacked in `roots`, with its older store or containerd's.

    Raises UnreachableError where these programs do not run at all.
    """
    with tempfile.TemporaryDirectory(prefix="airside-dockerd-", dir="/tmp") as directory:
        home = Path(directory)
        paths = [str(root / place) for root in roots for place in ("usr/bin", "usr/sbin")]
        environ = {
            **os.environ,
            "PATH": os.pathsep.join([*paths, os.environ["PATH"]]),
            "HOME": directory,
            "DOCKER_CONFIG": directory,
            "DOCKER_HOST": f"unix://{home}/docker.sock",
        }
        client = Docker(list(roots), environ)
        _check_runs(client)
        features = {"containerd-snapshotter": True} if containerd_store else {}
        (home / "daemon.json").write_text(json.dumps({"features": features}))
        driver = "native" if containerd_store else "vfs"
        with (home / "log").open("wb") as log:
            client.daemon = process = subprocess.Popen(
                [client.program("dockerd"), *_flags(home, driver)],
                stdout=log,
                stderr=log,
                env=environ,
                preexec_fn=partial(die_with_parent, signal.SIGTERM),  # noqa: PLW1509 - one system call
            )
        try:

            def answers() -> bool:
                assert process.poll() is None, (home / "log").read_text()[-3000:]
                return (home / "docker.sock").exists() and _answers(client)

            wait_until(answers, lambda: (home / "log").read_text()[-3000:])
            yield client
        finally:
            process.terminate()
            process.wait(LIMIT_SECONDS)


def _flags(home: Path, driver: str) -> list[str]:
    return [
        f"--config-file={home}/daemon.json",
        f"--data-root={home}/root",
        f"--exec-root={home}/run",
        f"--pidfile={home}/pid",
        f"--host=unix://{home}/docker.sock",
        f"--storage-driver={driver}",
        "--bridge=none",
        "--iptables=false",
        "--ip-forward=false",
    ]


def _check_runs(client: Docker) -> None:
    """Whether the host's libraries are new enough, and all there."""
    command = [client.program("dockerd"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnreachableError(f"{command[0]} does not run here: {done.stderr.strip()}")


def _answers(client: Docker) -> bool:
    command = [client.program("docker"), "version"]
    done = subprocess.run(command, capture_output=True, check=False, env=client.environ)
    return done.returncode == 0
