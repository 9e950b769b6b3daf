"""Registry clients as users run them: the installed ones, and those of later Debian releases.

Each has a home of its own in `directory`, so that nothing of the host's settings counts. A daemon
of Docker has `support.docker`.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support import debian
from support.waiting import LIMIT_SECONDS


class Tools:
    """Programs on one directory. Each must end well, and gives what it printed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = {**os.environ, "HOME": str(directory), "COSIGN_PASSWORD": ""}
        for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
            self.environ.pop(name, None)

    def skopeo(self, *words: object) -> str:
        return self.run("skopeo", "--insecure-policy", *words)

    def podman(self, *words: object) -> str:
        home = self.directory / "podman"
        places = ["--root", home / "root", "--runroot", home / "run", "--tmpdir", home / "tmp"]
        quiet = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--log-level=error"]
        return self.run("podman", *places, "--storage-driver=vfs", *quiet, *words)

    def buildah(self, *words: object) -> str:
        home = self.directory / "buildah"
        places = ["--root", home / "root", "--runroot", home / "run", "--storage-driver=vfs"]
        return self.run("buildah", *places, *words)

    def of(self, suite: str, package: str, *words: object, **environ: str) -> str:
        """The program of a Debian suite, named as its package. Raises UnreachableError."""
        program = debian.unpacked(suite, package) / "usr/bin" / package
        return self.run(program, *words, environ=environ)

    def run(self, *words: object, environ: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
            cwd=self.directory,
            env={**self.environ, **(environ or {})},
        )
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout


def digests_in(index: str) -> list[str]:
    """The digests of an index, as printed or answered."""
    return [str(each["digest"]) for each in json.loads(index)["manifests"]]
