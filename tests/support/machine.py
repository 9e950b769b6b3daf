"""A machine without a network, as operators have one: Debian, systemd, containerd, no Python.

`root_of` makes the root once with debootstrap and keeps it. A `Machine` is a copy of it on a file
system of its own in a file, booted by systemd-nspawn: systemd is its process 1, it has a loopback
device and no route. Its disk can be filled, and it goes as a whole.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from support import debian
from support.waiting import LIMIT_SECONDS, wait_until

SUITE = "bookworm"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "containerd", "runc", "procps")
DISK_BYTES = 1_600_000_000
_MAKE_SECONDS = 900.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CGROUPS = Path("/sys/fs/cgroup")


def root_of(packages: Sequence[str] = PACKAGES) -> Path:
    """The root of a small Debian with these packages, made once. Raises UnreachableError."""
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    root = debian.cache() / "machines" / name
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            scratch = root.with_name(f".{name}.part")
            shutil.rmtree(scratch, ignore_errors=True)
            _debootstrap(scratch, packages)
            scratch.rename(root)
    return root


def _debootstrap(root: Path, packages: Sequence[str]) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}"]
    done = subprocess.run(
        [*command, SUITE, str(root), debian.mirror()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_MAKE_SECONDS,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{_PATH}"},
    )
    if done.returncode:
        raise debian.UnreachableError(f"debootstrap: {(done.stdout + done.stderr)[-500:]}")
    (root / "etc/hostname").unlink()  # the host's
    for emptied in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
        for path in (root / emptied).rglob("*"):
            if path.is_file():
                path.unlink()


class Machine:
    """A machine that runs. `run` gives it commands; `pid` is its process 1 as the host sees it."""

    def __init__(self, directory: Path, name: str = "site-1") -> None:
        self.name = name
        self._mount = directory / "root"
        self._disk = directory / "disk"
        self._log = directory / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.pid = 0

    @property
    def root(self) -> Path:
        """The machine's file system, as the host sees it."""
        return self._mount

    def start(self, packages: Sequence[str] = PACKAGES) -> None:
        """Makes the disk and boots. Returns when systemd says that everything runs."""
        source = root_of(packages)
        self._mount.mkdir()
        with self._disk.open("wb") as disk:
            disk.truncate(DISK_BYTES)
        _host("mkfs.ext4", "-q", "-d", source, "-O", "^has_journal", "-m", "0", self._disk)
        _host("mount", "-o", "loop", self._disk, self._mount)
        self.boot()

    def boot(self) -> None:
        """Boots what is on the disk."""
        command = ["setpriv", "--pdeathsig", "KILL"]  # it ends with the tests, however they end
        command += ["systemd-nspawn", f"--directory={self._mount}", f"--machine={self.name}"]
        command += ["--boot", "--private-network", "--register=no", "--keep-unit"]
        command += ["--capability=all", "--system-call-filter=@keyring bpf"]
        command += [f"--hostname={self.name}", "--console=pipe", "--link-journal=no"]
        with self._log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid = wait_until(self._leader, self._console)
        wait_until(self._is_up, self._console)
        self._let_containers_run()

    def _leader(self) -> int:
        """The machine's process 1, once systemd has taken it over; 0 before."""
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console()
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
        for child in children.split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return 0

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def _let_containers_run(self) -> None:
        """nspawn mounts the old control groups read-only; runc writes to them."""
        if (_CGROUPS / "cgroup.controllers").exists():
            return
        self.run("mount", "-o", "remount,rw", "/sys/fs/cgroup")
        for controller in _controllers():
            self.run("mount", "-o", "remount,rw,bind", f"/sys/fs/cgroup/{controller}")

    def stop(self) -> None:
        """Shuts down, and takes the disk away."""
        if self._nspawn is not None:
            if self._nspawn.poll() is None:
                self.run("systemctl", "poweroff", "--no-block")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._nspawn.wait(LIMIT_SECONDS)
            if self._nspawn.poll() is None:
                self._nspawn.kill()
            self._nspawn.wait(LIMIT_SECONDS)
        if self._mount.is_mount():
            wait_until(self._unmounts, f"{self._mount} is unmounted")
        self._disk.unlink(missing_ok=True)

    def _unmounts(self) -> bool:
        """Unmounts the disk, unless a process of the machine still ends."""
        done = subprocess.run(["umount", str(self._mount)], check=False, capture_output=True)
        return done.returncode == 0

    def run(
        self, *words: object, timeout: float = LIMIT_SECONDS, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the machine, as root; returns it whatever its exit code is."""
        return subprocess.run(
            [*self.entering(), "env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8",
             *(f"{key}={value}" for key, value in (env or {}).items()), *map(str, words)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=timeout, cwd="/",
        )  # fmt: skip

    def done(self, *words: object, timeout: float = LIMIT_SECONDS) -> str:
        """Runs a command that must end well; returns what it printed."""
        ran = self.run(*words, timeout=timeout)
        assert ran.returncode == 0, (words, ran.returncode, ran.stdout[-3000:], ran.stderr[-3000:])
        return ran.stdout

    def entering(self) -> list[str]:
        """The words that put a command into every name space of the machine."""
        return ["nsenter", f"--target={self.pid}", "-m", "-u", "-i", "-n", "-p", "-C", "--"]

    def copy_in(self, source: Path, target: str) -> None:
        """Copies a file of the host into the machine, as from a stick."""
        shutil.copyfile(source, self._mount / target.lstrip("/"))

    def files(self) -> set[str]:
        """Every path on the machine's disk, but for logs and what only its running leaves."""
        found = set()
        for directory, directories, names in os.walk(self._mount):
            here = Path("/", os.path.relpath(directory, self._mount))
            directories[:] = [name for name in directories if str(here / name) not in _NOT_COMPARED]
            found |= {str(here / name) for name in (*directories, *names)}
        return found

    def _console(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


_NOT_COMPARED = {
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/lost+found"),
    *("/var/log", "/var/tmp", "/var/cache", "/var/lib/systemd", "/var/lib/containerd"),
}


def _controllers() -> Iterator[str]:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup" and "name=" not in line:
            yield Path(place).name


def _host(*words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        check=False,
        capture_output=True,
        text=True,
        timeout=_MAKE_SECONDS,
    )
    assert done.returncode == 0, (words, done.stderr)
