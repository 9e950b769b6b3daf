"""System calls that Python lacks: `openat2`, and the type of a file system."""

import ctypes
import errno
import os
import struct
from typing import NoReturn

NO_MAGIC_LINKS, NO_LINKS, BENEATH = 0x02, 0x04, 0x08
"""RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH of openat2(2)."""

_OPENAT2 = 437
"""The same number on every architecture."""
_HOW = struct.Struct("=QQQ")
_STATFS_BYTES = 256
"""More than `struct statfs` has anywhere; its first word is the type."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_WORD = ctypes.c_long if struct.calcsize("l") == 8 else ctypes.c_int

NOT_ON_DISK = frozenset(
    {
        *(0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x64626720, 0x74726163, 0x73636673),
        *(0x62656570, 0xCAFE4A11, 0x6165676C, 0xDE5E81E4, 0xF97CFF8C, 0x43415D53, 0x19800202),
        *(0x1CD1, 0x6E736673, 0x42494E4D, 0x5A3C69F0, 0x09041934, 0x50494446),
    }
)
"""Types of file systems whose files are views of the kernel: proc, sysfs, cgroup, cgroup2, debugfs,
tracefs, securityfs, configfs, bpf, pstore, efivarfs, selinuxfs, smackfs, mqueue, devpts, nsfs,
binfmt_misc, apparmorfs, anonymous inodes, pidfs (statfs(2))."""


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """Open a path with `resolve`. Raises OSError; ENOSYS where the kernel lacks the call."""
    if "\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    how = ctypes.create_string_buffer(_HOW.pack(flags | os.O_CLOEXEC, 0, resolve), _HOW.size)
    found = _LIBC.syscall(_OPENAT2, directory, os.fsencode(path), how, ctypes.c_size_t(_HOW.size))
    if found < 0:
        _raise(path)
    return int(found)


def is_on_disk(descriptor: int) -> bool:
    """Returns False for a file that the kernel makes up, as in `/proc`. Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(descriptor, buffer) < 0:
        _raise(f"descriptor {descriptor}")
    return _WORD.from_buffer(buffer).value & 0xFFFFFFFF not in NOT_ON_DISK


def _raise(path: str) -> NoReturn:
    number = ctypes.get_errno() or errno.EIO
    raise OSError(number, os.strerror(number), path)
