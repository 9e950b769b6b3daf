"""Whether this machine makes and mounts layers that are an index and a tar.

containerd 2.1 has the snapshotter. Such an index has blocks of 512 bytes and an extra device that
lies in the same file, which the kernel reads since 6.4. mkfs.erofs is of erofs-utils.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

EROFS = "erofs"
"""The name of the snapshotter."""
MKFS = "mkfs.erofs"
OLDEST_MKFS = (1, 8)
"""The first whose `--tar=i` is tried here."""
OLDEST_KERNEL = (6, 4)
FILE_SYSTEMS = Path("/proc/filesystems")
_SECONDS = 10.0
_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Mkfs:
    """An installed mkfs.erofs. `numbers` is empty if it does not run."""

    path: str
    numbers: tuple[int, ...] = ()

    @property
    def is_usable(self) -> bool:
        return self.numbers >= OLDEST_MKFS

    @property
    def version(self) -> str:
        return ".".join(map(str, self.numbers))


def find_mkfs() -> Mkfs | None:
    """Returns the first mkfs.erofs on PATH, or in the usual directories; None if there is none."""
    searched = os.pathsep.join(filter(None, (os.environ.get("PATH"), _DIRECTORIES)))
    path = shutil.which(MKFS, path=searched)
    return Mkfs(path, _numbers_of(path)) if path else None


def _numbers_of(path: str) -> tuple[int, ...]:
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env={"PATH": _DIRECTORIES},
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = _VERSION.search(done.stdout)
    return tuple(map(int, found.groups())) if found else ()


def kernel_numbers() -> tuple[int, ...]:
    """Returns major and minor number of the running kernel."""
    found = _VERSION.match(os.uname().release)
    return tuple(map(int, found.groups())) if found else ()


def is_in_kernel() -> bool | None:
    """Returns True if the kernel mounts erofs now; None if that is unknown.

    False may also mean that its module is not loaded.
    """
    try:
        return "\terofs\n" in FILE_SYSTEMS.read_text("ascii", "replace")
    except OSError:
        return None


def why_no_index(mkfs: Mkfs | None, kernel: tuple[int, ...]) -> str:
    """Returns why the layers are left to containerd; "" if we can write them here."""
    if mkfs is None:
        return f"{MKFS} is not installed (package erofs-utils)"
    if not mkfs.is_usable:
        oldest = ".".join(map(str, OLDEST_MKFS))
        return f"{mkfs.path} is version {mkfs.version or 'unknown'}, older than {oldest}"
    if kernel < OLDEST_KERNEL:
        return (
            f"the kernel {'.'.join(map(str, kernel))} does not mount an index with its tar: "
            f"that needs {'.'.join(map(str, OLDEST_KERNEL))}"
        )
    return ""
