"""A fresh ext4 in a loop file, for each measure anew. Needs root.

Nothing of an earlier measure remains: a file system where thousands of inodes were just deleted
creates files several times slower. The loop file lies in `/dev/shm` where there is memory for it,
so that the disk of the machine has no share in the figures. The mounts are made in a mount
namespace of the benchmark (`own_mounts`) and end with it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SIZE = "8G"
_INODES = "262144"
_NEEDED_MB = 10_000
_OWN = "BENCH_OWN_MOUNTS"


def own_mounts() -> None:
    """Run this program again in a mount namespace of its own, once."""
    if os.environ.get(_OWN) == str(os.getpid()):
        return
    os.environ[_OWN] = str(os.getpid())
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        sys.exit("the benchmark mounts file systems: run it as root, with util-linux")
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
    os.execv(unshare, command)  # the same process ID


def default_directory() -> Path:
    """Returns `/dev/shm` if there is memory for the loop file, else `/var/tmp`."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines}
    shared = Path("/dev/shm")
    if not shared.is_dir() or available["MemAvailable"] < _NEEDED_MB:
        return Path("/var/tmp")
    free = os.statvfs(shared)
    is_large = free.f_bavail * free.f_frsize >= _NEEDED_MB << 20
    return shared if is_large else Path("/var/tmp")


@contextlib.contextmanager
def fresh(base: Path) -> Iterator[Path]:
    """Mount a new, empty ext4 below `base`; yields its directory and removes it at the end."""
    image, directory = base / "disk.img", base / "disk"
    directory.mkdir(exist_ok=True)
    with image.open("wb"):
        pass
    _run("truncate", "-s", SIZE, image)
    # the inode tables are written now, not by a kernel thread during the measure
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    _run("mkfs.ext4", "-q", "-F", "-E", lazy, "-N", _INODES, image)
    _run("mount", "-o", "loop", image, directory)
    try:
        yield directory
    finally:
        _run("umount", "--lazy", directory)
        image.unlink()


def sync(directory: Path) -> None:
    """Sync the file system of the measure only, not those of other processes."""
    _run("sync", "-f", directory)


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
