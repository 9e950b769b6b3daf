"""Opens files with the rights of another user, so that the kernel decides what they may read.

Linux has user and groups for the file system by thread (setfsuid(2)); the C library has no call for
the groups of one thread, so setgroups(2) is called directly. Root loses its rights to all files
with it, and gets them back with its own number. Blocking; thread-safe.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "loongarch64": 159, "ppc64le": 81}
_SETGROUPS |= {"s390x": 206, "armv7l": 206, "i686": 206}
_NEEDED = 1 << 6 | 1 << 7
"""CAP_SETGID and CAP_SETUID."""
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_PR_GET_SECUREBITS, _NO_SETUID_FIXUP = 27, 0x04
"""With this bit, root keeps its rights to files whatever its number is."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_UNCHANGED = ctypes.c_uint(-1 & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and groups, as the kernel knows a process by."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def can_act() -> bool:
    """Returns True if this process may take the rights of other users, and none more than theirs.

    An agent that is not root can't, nor one in a container without CAP_SETUID and CAP_SETGID.
    """
    if os.geteuid() != 0 or platform.machine() not in _SETGROUPS or not _has_capabilities():
        return False
    return not _LIBC.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0) & _NO_SETUID_FIXUP


@cache
def _has_capabilities() -> bool:
    status = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("CapEff", "0"), 16) & _NEEDED == _NEEDED


@contextmanager
def acting_as(user: Credentials | None) -> Iterator[None]:
    """Gives the calling thread the rights of this user to files; None: leaves it as it is.

    For single system calls: nothing else may run in the thread meanwhile. Raises PermissionError if
    that is not possible.
    """
    if user is None:
        yield
        return
    if not can_act():
        raise PermissionError(1, "the agent cannot take the rights of another user")
    own = Credentials(os.geteuid(), os.getegid(), tuple(os.getgroups()))
    was_dumpable = _LIBC.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    try:
        _take(user)
        yield
    finally:
        _take_back(own)
        if was_dumpable == 1:  # the kernel takes it from who changes its user
            _LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _take_back(own: Credentials) -> None:
    try:
        _take(own)
    except PermissionError as exc:  # never: then all that this thread does would be wrong
        raise RuntimeError("the thread has lost the rights of the agent") from exc


def _take(user: Credentials) -> None:
    """Changes groups, group and user, in the order in which that is allowed either way."""
    if os.geteuid() == user.uid:
        _LIBC.setfsuid(ctypes.c_uint(user.uid))  # back: gives root its rights
    _set_groups(user.groups)
    _LIBC.setfsgid(ctypes.c_uint(user.gid))
    _LIBC.setfsuid(ctypes.c_uint(user.uid))
    found = (_LIBC.setfsuid(_UNCHANGED) & 0xFFFFFFFF, _LIBC.setfsgid(_UNCHANGED) & 0xFFFFFFFF)
    if found != (user.uid, user.gid):  # they report no error
        raise PermissionError(1, "the agent cannot take the rights of another user")


def _set_groups(groups: tuple[int, ...]) -> None:
    numbers = struct.pack(f"={len(groups)}I", *groups)
    call = _SETGROUPS[platform.machine()]
    if _LIBC.syscall(ctypes.c_long(call), ctypes.c_long(len(groups)), numbers) < 0:
        number = ctypes.get_errno()
        raise PermissionError(number, f"setgroups: {os.strerror(number)}")
