"""What a containerd leaves behind when it ends: shims with their containers, and mounts.

Containers outlive containerd on purpose. Here they are ended by their ids: the shims that were
given this containerd's socket, and the processes below them.
"""

import contextlib
import ctypes
import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from support.waiting import LIMIT_SECONDS

POLL_SECONDS = 0.02
CGROUPS = Path("/sys/fs/cgroup")
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def end_shims(socket: Path) -> None:
    """Kill the containers of the containerd at this socket, then their shims, which reap them."""
    deadline = time.monotonic() + LIMIT_SECONDS
    groups: set[Path] = set()
    while shims := shims_of(socket):
        assert time.monotonic() < deadline, f"shims {shims} do not end"
        containers = _below(shims)
        groups.update(group for pid in containers for group in groups_of(pid))
        for pid in containers or shims:
            _kill(pid)
        time.sleep(POLL_SECONDS)
    for group in sorted(groups - set(groups_of(os.getpid())), reverse=True):
        _remove_group(group, deadline)


def shims_of(socket: Path) -> list[int]:
    """Their process ids."""
    found: list[int] = []
    for pid in _pids():
        words = _read(pid, "cmdline").split("\0")
        if "containerd-shim" in words[0] and str(socket) in words:
            found.append(pid)
    return found


def shim_sockets(state: Path) -> list[Path]:
    """Where the shims listen, outside of the containerd's own directory: each bundle says it."""
    found: list[str] = []
    for bundle in state.glob("io.containerd.runtime.v2.task/*/*"):
        for name in ("address", "bootstrap.json"):  # of 1.6, and of later versions
            with contextlib.suppress(FileNotFoundError):
                found += re.findall(r"unix://([^\s\"]+)", (bundle / name).read_text())
    return [Path(path) for path in found]


def unmount_below(directory: Path) -> None:
    """The innermost first. Each is detached at once, whoever uses it."""
    for point in reversed(mounts_below(directory)):
        if _libc.umount2(os.fsencode(point), _MNT_DETACH):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(point))


def mounts_below(directory: Path) -> list[Path]:
    """Mount points of this process's namespace in the directory, the outermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(_unescaped(line.split(" ")[4])) for line in lines]
    return [point for point in points if directory in point.parents]


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _below(pids: Iterable[int]) -> list[int]:
    parents = {pid: _parent(pid) for pid in _pids()}
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - set(pids))


def groups_of(pid: int) -> list[Path]:
    """The directories of its control groups, of version 1 or 2 or both."""
    found: list[Path] = []
    for line in _read(pid, "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        places = [controllers.removeprefix("name=")] if controllers else ["unified", ""]
        found += [CGROUPS / place / path.lstrip("/") for place in places]
    return [group for group in found if group.is_dir()]


def _remove_group(group: Path, deadline: float) -> None:
    """As its runtime does at the end of a container; a killed process leaves it a little later."""
    while group.is_dir():
        try:
            group.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{group} is in use"
            time.sleep(POLL_SECONDS)


def _parent(pid: int) -> int:
    _, _, rest = _read(pid, "stat").rpartition(") ")
    return int(rest.split(" ")[1]) if rest else 0


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int, name: str) -> str:
    """Empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
