"""A containerd of our own, of three versions, on a directory of its own. Needs root.

The installed one is used where it is of the version asked for, else Debian's package of it is
unpacked. Every wait is bounded. It dies with the test's process, and leaving the `with` block ends
it, its shims and their containers, and removes what it held. It has its own mount namespace, into
which the host's mounts propagate but not back, so that none of its mounts stays either.
"""

import contextlib
import ctypes
import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from airside.containerd.client import Client
from support import cni, containerd_config, debian, remains
from support.containerd_config import Options, Snapshotter
from support.processes import die_with_parent
from support.size import TORTURE
from support.waiting import LIMIT_SECONDS, wait_until

SUITES = {"1.6": "bookworm", "1.7": "trixie", "2.1": "forky"}
VERSIONS = tuple(SUITES)
"""What is tested, by the Debian release that has it."""


def by_turns(cases: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Returns each case behind a version of containerd, which take turns; all in `make torture`.

    For parameters that begin with `containerd_version`, which is indirect.
    """
    found = [(VERSIONS, case) for case in cases]
    if not TORTURE:
        found = [((VERSIONS[n % len(VERSIONS)],), case) for n, (_, case) in enumerate(found)]
    return [(version, *case) for versions, case in found for version in versions]


def on_one(version: str) -> pytest.MarkDecorator:
    """Marks a test that runs on one of `VERSIONS`, where its kin have the others.

    On all in `make torture`.
    """
    versions = VERSIONS if TORTURE else (version,)
    return pytest.mark.parametrize("containerd_version", versions, indirect=True)


_RUNS = 4
LONGEST_SOCKET = 97
"""containerd takes 104 bytes, and appends `.ttrpc`."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_REC_SLAVE = 0x4000 | 0x80000
_libc = ctypes.CDLL(None, use_errno=True)


class Containerd:
    """One containerd. Started by `with` or `start()`; may be started again after it ended.

    `version`: of `VERSIONS`; the installed one, whatever it is, without. `directory`: where all of
    it lies, for instance on the file system of an agent's data; without, a new one in /var/tmp.
    `options`: see `Options`. `environ`: over the process's own. Without `network` it has only a
    loopback of its own. Raises UnreachableError.
    """

    def __init__(
        self,
        version: str | None = None,
        directory: Path | None = None,
        *,
        options: Options | None = None,
        environ: Mapping[str, str] | None = None,
        network: bool = True,
    ) -> None:
        self.programs = programs_of(version)
        self.version = version_in(self.programs)
        self._stack = contextlib.ExitStack()
        self.home = directory or self._temporary("/var/tmp")
        self.socket = self.home / "c.sock"
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET:
            self.socket = self._temporary("/tmp") / "c.sock"
        self.environ = {**os.environ, **(environ or {})}
        self.environ["PATH"] = os.pathsep.join([str(self.programs), self.environ["PATH"]])
        self.network = network
        self.options = options or Options()
        if self.options.snapshotter is None:
            best: Snapshotter = "overlayfs" if overlays_work(self.home) else "native"
            self.options = dataclasses.replace(self.options, snapshotter=best)
        self.log_path = self.home / "log"
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    def _temporary(self, parent: str) -> Path:
        made = tempfile.TemporaryDirectory(prefix="airside-ctrd-", dir=parent)
        return Path(self._stack.enter_context(made))

    # its places

    @property
    def root(self) -> Path:
        return self.home / "root"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def content_root(self) -> Path:
        """Where `blobs/sha256` is, once there is a blob."""
        return self.root / "io.containerd.content.v1.content"

    @property
    def hosts(self) -> Path:
        """The directory of `<registry>/hosts.toml`, read at each pull."""
        return self.home / "certs.d"

    # its life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"containerd's log ends:\n{self.log[-3000:]}")
        self.close()

    def start(self) -> Self:
        """Start the process, and wait until it serves, CRI too."""
        assert not self.is_running
        for path in (self.root, self.state, self.home / "temp", self.home / "cni", self.hosts):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        cni.write_network(self.home / "cni")
        config = self.home / "config.toml"
        text = containerd_config.written(self.version, self.home, self.socket, self.options)
        config.write_text(text)
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # ended by kill() and stop()
                [self.programs / "containerd", "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                preexec_fn=_alone if self.network else _cut_off,  # noqa: PLW1509 - it only makes system calls
            )
        try:
            self._wait_booted()
        except BaseException:
            self.close()
            raise
        return self

    def _wait_booted(self) -> None:

        def booted() -> bool:
            assert self.is_running, f"containerd ended at its start:\n{self.log[-3000:]}"
            return "containerd successfully booted" in self.log

        wait_until(booted, lambda: self.log[-3000:], poll_seconds=0.01)

    def stop(self) -> None:
        """SIGTERM. Containers run on, as they do when the service is stopped."""
        assert self.is_running, f"containerd ended by itself:\n{self.log[-3000:]}"
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end after SIGTERM:\n{self.log[-3000:]}") from None
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log[-3000:]}"

    def kill(self) -> None:
        """SIGKILL; nothing happens if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(LIMIT_SECONDS)

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def wipe(self) -> Self:
        """Stop it, delete all that it holds, and start it again."""
        self.stop()
        self._empty()
        return self.start()

    def close(self) -> None:
        """End it and its containers, delete what it holds. A directory that was given stays."""
        self.kill()
        try:
            self._empty()
        finally:
            self._stack.close()

    def _empty(self) -> None:
        remains.end_shims(self.socket)
        for path in remains.shim_sockets(self.state):
            path.unlink(missing_ok=True)
        remains.unmount_below(self.home)
        for path in (self.root, self.state, self.home / "runc", self.home / "temp"):
            if path.exists():
                shutil.rmtree(path)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What was logged since the last start."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_bytes()[self._log_start :].decode(errors="replace")
        return ""

    # its command line

    def ctr(
        self, *words: object, namespace: str = "k8s.io", seconds: float = LIMIT_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """Run `ctr` of the same version; the caller judges the exit status."""
        command = [self.programs / "ctr", "-a", self.socket, "-n", namespace, *words]
        return subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=self.environ,
        )

    def did(self, *words: object, namespace: str = "k8s.io") -> str:
        """Run `ctr`, which must end well; gives its standard output."""
        done = self.ctr(*words, namespace=namespace)
        assert done.returncode == 0, f"ctr {words}: {done.stderr}"
        return done.stdout

    @functools.cached_property
    def local(self) -> tuple[str, ...]:
        """The flag of `ctr images import`, `pull` and `export` to work as versions before 2 do."""
        return ("--local",) if "--local" in self.did("images", "import", "--help") else ()

    def run_container(
        self, image: str, name: str, *words: object, flags: tuple[object, ...] = ("--rm",)
    ) -> "subprocess.CompletedProcess[str]":
        """`ctr run` with runc's and the FIFOs' files in our directory.

        On a loaded machine ctr 1.6 may end before it has read what a short program said: one that
        did well and said nothing is run again.
        """
        ours = ("--fifo-dir", self.home / "fifo", "--runc-root", self.home / "runc")
        snapshotter = ("--snapshotter", self.options.snapshotter)
        for _ in range(_RUNS if "--rm" in flags else 1):
            ran = self.ctr("run", *flags, *ours, *snapshotter, image, name, *words)
            if ran.returncode or ran.stdout:
                break
        return ran

    def collect(self) -> None:
        """Have garbage collected, and wait for the end of it."""
        with Client.open(str(self.socket)) as client:
            client.leases.create("collect", seconds=LIMIT_SECONDS)
            client.leases.delete("collect", sync=True)


def programs_of(version: str | None) -> Path:
    """The directory of containerd, its shim and ctr of a version. Raises UnreachableError.

    Debian's release may have gone on to a later minor version, which then takes its place.
    """
    installed = shutil.which("containerd")
    if installed and version in (None, version_in(Path(installed).parent)):
        return Path(installed).parent
    if version is None:
        raise debian.UnreachableError("containerd is not installed")
    found = debian.unpacked(SUITES[version], "containerd") / "usr/bin"
    if _numbers(version_in(found)) < _numbers(version):
        raise debian.UnreachableError(f"{found} is containerd {version_in(found)}, not {version}")
    return found


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


@functools.cache
def version_in(directory: Path) -> str:
    """Major and minor number of the containerd there. Raises UnreachableError."""
    command = [directory / "containerd", "--version"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
    )
    found = re.search(r" v?(\d+\.\d+)\.\d+", done.stdout)
    if found is None:
        raise debian.UnreachableError(f"{command[0]} does not run here: {done.stderr.strip()}")
    return found[1]


def overlays_work(directory: Path) -> bool:
    """Whether an overlay can be mounted there: not on another overlay, nor on some networks'."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as made:
        places = {name: Path(made, name) for name in ("lowerdir", "upperdir", "workdir", "on")}
        for path in places.values():
            path.mkdir()
        target = places.pop("on")
        options = ",".join(f"{name}={path}" for name, path in places.items())
        command = ["unshare", "--mount", "mount", "-t", "overlay", "none", "-o", options, target]
        done = subprocess.run(command, capture_output=True, check=False, timeout=LIMIT_SECONDS)
        return done.returncode == 0


def _alone() -> None:
    """In the child: die with the parent; mounts that are made from here on are its own."""
    die_with_parent()
    if _libc.unshare(_CLONE_NEWNS) or _libc.mount(b"none", b"/", None, _MS_REC_SLAVE, None):
        raise OSError(ctypes.get_errno(), "cannot have a mount namespace")


def _cut_off() -> None:
    """The same, and no network but a loopback that is down."""
    _alone()
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot have a network namespace")
