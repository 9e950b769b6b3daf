"""Where the archives of docs/formats.md are made: each real tool, started when first asked for."""

import contextlib
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support import debian
from support.containerd import SUITES, Containerd
from support.docker import Docker, docker
from support.skopeo import run
from support.waiting import LIMIT_SECONDS, wait_until


class Workshop:
    """Tools that keep something (images, a daemon) do so in `directory`, until `close()`."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        prefix = "airside-workshop-"  # /tmp: podman's and docker's sockets need short paths
        made = tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp", ignore_cleanup_errors=True)
        self.directory = Path(self._stack.enter_context(made))
        self._daemons: list[Docker] = []

    def close(self) -> None:
        for each in self._daemons:  # all at once: each takes a second to end
            if each.daemon is not None:
                each.daemon.terminate()
        self._stack.close()

    # what is installed

    def podman(self, *words: object) -> str:
        home = self.directory / "podman"
        places = ["--root", home / "root", "--runroot", home / "run", "--tmpdir", home / "tmp"]
        quiet = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--log-level=error"]
        return run("podman", *places, "--storage-driver=vfs", *quiet, *words)

    def buildah(self, *words: object) -> str:
        home = self.directory / "buildah"
        places = ["--root", home / "root", "--runroot", home / "run"]
        return run("buildah", *places, "--storage-driver=vfs", *words)

    def build(self, context: Path, *flags: object) -> None:
        self.buildah("build", "--isolation=chroot", *flags, context)

    @functools.cached_property
    def containerd(self) -> Containerd:
        """The installed one."""
        return self._stack.enter_context(Containerd())

    @functools.cached_property
    def registry(self) -> str:
        """HOST:PORT of an empty `docker-registry`."""
        return self._stack.enter_context(docker_registry(self.directory / "registry"))

    # what other Debian suites have

    @functools.cache  # noqa: B019 - there is one workshop
    def containerd_of(self, suite: str) -> Containerd:
        """The containerd of a suite; the installed one without."""
        if not suite:
            return self.containerd
        [version] = [version for version, its in SUITES.items() if its == suite]
        return self._stack.enter_context(Containerd(version))

    def program(self, suite: str, package: str) -> Path:
        """The program that is named as its package."""
        return debian.unpacked(suite, package) / "usr/bin" / package

    def docker(self, suite: str, *, containerd_store: bool = False) -> Docker:
        return self._docker(suite, containerd_store)

    @functools.cache  # noqa: B019 - there is one workshop
    def _docker(self, suite: str, containerd_store: bool) -> Docker:  # noqa: FBT001
        packages = ["docker.io"]
        if suite != "bookworm":  # there docker.io has the client too
            packages += ["docker-cli", "docker-buildx"]
        roots = [debian.unpacked(suite, package) for package in packages]
        made = self._stack.enter_context(docker(*roots, containerd_store=containerd_store))
        self._daemons.append(made)
        return made


@contextlib.contextmanager
def docker_registry(home: Path) -> Iterator[str]:
    """Debian's registry in a new directory: HOST:PORT."""
    home.mkdir()
    config = home / "config.yml"
    config.write_text(
        f'version: "0.1"\nstorage: {{filesystem: {{rootdirectory: {home}/blobs}}}}\n'
        "http: {addr: 127.0.0.1:0}\n"
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", config], stdout=log, stderr=log, env={**os.environ}
        )
    try:

        def listens() -> str:
            text = (home / "log").read_text()
            assert process.poll() is None, text
            return text if "listening on " in text else ""

        text = wait_until(listens, (home / "log").read_text)
        yield text.partition("listening on ")[2].split('"')[0].split(" ")[0].strip()
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)
