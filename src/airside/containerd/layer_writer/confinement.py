"""Takes from the process that writes a layer all that it does not need (ADR 0046).

What holds when `confine` returns:

- The root directory is the layer's own, cloned as a mount of its own (`open_tree`), without devices
  and set-user-ID programs. The lower directories are such mounts too, read-only. From none of them
  `..` or a link leads out, whoever renames what at the same time.
- Of root's capabilities those to make files of any owner and kind are left, and none can return.
- No socket, process, program, mount, module, trace, signal or key can be made or sent, and no
  ioctl (seccomp). No module can be imported: it would come from the layer.
- Processor time, memory, the length of a file, and open files are limited.

Standard library only: the process must be small. Raises OSError: nothing is written then.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)

_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID = 0, 1, 3, 4
_SETPCAP, _SYS_CHROOT, _SYS_ADMIN, _MKNOD, _SETFCAP = 8, 18, 21, 27, 31
CAPABILITIES = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD, _SETFCAP)
"""To write files of any owner, mode and kind, and `security.capability`."""
TRUSTED_CAPABILITIES = (*CAPABILITIES, _SYS_ADMIN)
"""And extended attributes `trusted.*`, by which overlayfs knows opaque directories."""
WORKER_CAPABILITIES = (*TRUSTED_CAPABILITIES, _SETPCAP, _SYS_CHROOT)
"""And to confine itself: what the worker needs when it begins."""

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_PR_SET_SECCOMP, _PR_SET_DUMPABLE = 22, 4
_SECCOMP_FILTER = 2
_CLONE_NEWNET, _CLONE_NEWIPC = 0x40000000, 0x08000000
_OPEN_TREE, _MOUNT_SETATTR = 428, 442
"""Numbers of system calls; those since Linux 5.1 are the same on every architecture."""
_OPEN_TREE_CLONE, _AT_EMPTY_PATH = 1, 0x1000
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64
_OPEN_FILES = 1024
_GRACE_SECONDS = 5
"""Of processor time: where the soft limit is the hard one, the kernel kills instead of SIGXCPU."""

_REFUSED = {
    # x86-64, aarch64
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "fork": (57, 220),  # aarch64 has clone only
    "vfork": (58, 220),
    "clone3": (435, 435),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "execve": (59, 221),
    "execveat": (322, 281),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "unshare": (272, 97),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "syslog": (103, 116),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ioctl": (16, 29),  # freezes a file system, for one
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
}
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""By the machine's name: the kernel's AUDIT_ARCH, and the column of `_REFUSED`."""
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that the writing of one layer may take."""

    processor_seconds: int
    memory_bytes: int
    """Address space beyond what the process has when it begins."""
    file_bytes: int


def leave_network() -> None:
    """Gives the calling thread an empty network of its own. Needs CAP_SYS_ADMIN; raises OSError."""
    _check(_libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC))


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies; exits if it is dead already."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)


def confine(
    upper: int, lowers: Sequence[int], bounds: Bounds, *, trusted: bool
) -> tuple[int, list[int]]:
    """Confines this process to directories, for good. Returns them as cloned mounts.

    `trusted`: extended attributes `trusted.*` are to be written.
    """
    used_bytes = _used_bytes()
    root = _cloned(upper, _NOSUID | _NODEV | _NOEXEC)
    below = [_cloned(lower, _RDONLY | _NOSUID | _NODEV | _NOEXEC) for lower in lowers]
    for number in (upper, *lowers):
        os.close(number)
    os.fchdir(root)
    os.chroot(".")
    sys.meta_path.clear()
    os.umask(0)
    _limit(bounds, used_bytes, len(below))
    _drop_capabilities(TRUSTED_CAPABILITIES if trusted else CAPABILITIES)
    _refuse_system_calls()
    return root, below


def _cloned(directory: int, attributes: int) -> int:
    """Returns a directory as a mount of its own, of which it is the root."""
    found = _libc.syscall(
        ctypes.c_long(_OPEN_TREE),
        ctypes.c_int(directory),
        ctypes.c_char_p(b""),
        ctypes.c_uint(_OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC),
    )
    _check(found)
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    _check(
        _libc.syscall(
            ctypes.c_long(_MOUNT_SETATTR),
            ctypes.c_int(found),
            ctypes.c_char_p(b""),
            ctypes.c_uint(_AT_EMPTY_PATH),
            ctypes.c_char_p(wanted),
            ctypes.c_size_t(len(wanted)),
        )
    )
    return int(found)


def _used_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib is not loaded
        return int(file.read().split()[0]) * resource.getpagesize()


def _limit(bounds: Bounds, used_bytes: int, directories: int) -> None:
    limits = {
        resource.RLIMIT_CPU: bounds.processor_seconds,
        resource.RLIMIT_AS: used_bytes + bounds.memory_bytes,
        resource.RLIMIT_FSIZE: bounds.file_bytes,
        resource.RLIMIT_NOFILE: directories + _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        soft, top = most, most + (_GRACE_SECONDS if kind == resource.RLIMIT_CPU else 0)
        if hard != resource.RLIM_INFINITY:
            soft, top = min(soft, hard), min(top, hard)
        resource.setrlimit(kind, (soft, top))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # EFBIG instead


def _drop_capabilities(kept: Sequence[int]) -> None:
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    for number in range(_MOST_CAPABILITIES):
        if number not in kept and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
            if ctypes.get_errno() == 22:  # EINVAL: this kernel has no such capability
                break
            _check(-1)
    mask = sum(1 << number for number in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("IIIIII", low, low, 0, high, high, 0)
    _check(_libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data)))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _refuse_system_calls() -> None:
    """Sets a seccomp filter: what `_REFUSED` names fails with EPERM."""
    architecture = _ARCHITECTURES.get(os.uname().machine)
    if architecture is None:
        return
    number, column = architecture
    refused = sorted(row[column] for row in _REFUSED.values())
    jumps = [_jump(0x15, call, len(refused) - n, 0) for n, call in enumerate(refused)]
    program = [
        _statement(0x20, 4),  # the architecture
        _jump(0x15, number, 1, 0),
        _statement(0x06, 0x80000000),  # another: kill
        _statement(0x20, 0),  # the system call
        *([_jump(0x35, _X32, len(refused) + 1, 0)] if column == 0 else []),
        *jumps,
        _statement(0x06, 0x7FFF0000),  # allow
        _statement(0x06, 0x00050000 | 1),  # EPERM
    ]
    raw = ctypes.create_string_buffer(b"".join(program))
    filter_ = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(raw))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, ctypes.c_char_p(filter_), 0, 0))


def _statement(code: int, value: int) -> bytes:
    return struct.pack("HBBI", code, 0, 0, value)


def _jump(code: int, value: int, is_true: int, is_false: int) -> bytes:
    return struct.pack("HBBI", code, is_true, is_false, value)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
