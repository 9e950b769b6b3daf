"""The clock, limits and kernel of this host. Blocking."""

import ctypes
import os
import re
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from airside.diagnostics.doctor.facts import Agent, Host, Inotify
from airside.diagnostics.doctor.gather.processes import PROC, iter_processes

_LIMITS = Path("/proc/sys/fs/inotify")
_SELINUX = Path("/sys/fs/selinux/enforce")
_FILE_SYSTEMS = Path("/proc/filesystems")
_MODULES = Path("/lib/modules")
_TIMEX_BYTES = 256
"""adjtimex(2): struct timex has 208."""
_STATUS_OFFSET = 40
_UNSYNCHRONIZED = 0x0040
_OPEN_FILES = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)
_libc = ctypes.CDLL(None, use_errno=True)


def look_at_host(agent: Agent | None) -> Host:
    """Returns the host's facts; limits are those of the agent's user, else of this user."""
    uid = os.geteuid()
    theirs = agent.uid if agent is not None and agent.uid is not None else uid
    limit, whose = _open_files(agent)
    return Host(
        uid=uid,
        now=time.time(),
        synchronized=_synchronized(),
        inotify=_inotify(theirs),
        open_files=limit,
        open_files_of=whose,
        selinux=_selinux(),
        has_overlay=_has_overlay(),
    )


def _synchronized() -> bool | None:
    """True if the kernel reports a synchronised clock (adjtimex(2) changes nothing here)."""
    if ctypes.sizeof(ctypes.c_long) != 8:
        return None
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    if _libc.adjtimex(buffer) < 0:
        return None
    status = ctypes.c_int.from_buffer(buffer, _STATUS_OFFSET).value
    return not status & _UNSYNCHRONIZED


def _inotify(uid: int) -> Inotify | None:
    try:
        watches = int((_LIMITS / "max_user_watches").read_text())
        instances = int((_LIMITS / "max_user_instances").read_text())
    except (OSError, ValueError):
        return None
    used_watches = used_instances = 0
    for process in iter_processes():
        with suppress(OSError):
            if process.stat().st_uid == uid:
                counts = _watches_of(process)
                used_instances += len(counts)
                used_watches += sum(counts)
    return Inotify(uid, watches, instances, used_watches, used_instances)


def _watches_of(process: Path) -> list[int]:
    """Returns the number of watches of each inotify instance of a process. Raises OSError."""
    found = []
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            if str(descriptor.readlink()) == "anon_inode:inotify":
                text = (process / "fdinfo" / descriptor.name).read_text()
                found.append(text.count("\ninotify "))
    return found


def _open_files(agent: Agent | None) -> tuple[int | None, str]:
    if agent is not None and agent.pid is not None:
        with suppress(OSError):
            match = _OPEN_FILES.search((PROC / str(agent.pid) / "limits").read_text())
            if match:
                return int(match[1]), "the agent"
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (None if limit == resource.RLIM_INFINITY else limit), "an agent started from here"


def _selinux() -> Literal["off", "permissive", "enforcing"]:
    with suppress(OSError):
        return "enforcing" if _SELINUX.read_text().strip() == "1" else "permissive"
    return "off"


def _has_overlay() -> bool | None:
    """Returns True if the kernel has overlayfs or a module of it; None if unknown."""
    try:
        if re.search(r"\boverlay$", _FILE_SYSTEMS.read_text(), re.MULTILINE):
            return True
        modules = _MODULES / os.uname().release
        names = [(modules / name).read_text() for name in ("modules.dep", "modules.builtin")]
    except OSError:
        return None
    return "/overlay.ko" in "".join(names)
