"""Makes a built directory fit to ship: the same modes and times each time, and checked."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from frozen.architectures import Architecture
from frozen.elf import is_elf, read_elf

OLDEST_GLIBC = (2, 36)
"""Debian 12's. What asks for a newer one ends the build."""
_GLIBC = frozenset(
    {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"}
)


def normalise(directory: Path, epoch: int) -> None:
    """Set all modes (0755, 0644) and times, whatever the umask."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_symlink():
            continue
        is_program = path.is_dir() or (path.parent.name == "bin" and path.name == "airside")
        path.chmod(0o755 if is_program else 0o644)
        os.utime(path, (epoch, epoch))


def check(directory: Path, arch: Architecture) -> None:
    """Raises SystemExit if a file is for another machine, or needs what is not here."""
    problems = [*_problems(directory, arch)]
    if problems:
        raise SystemExit("\n".join(["frozen: the build is wrong:", *problems]))


def _problems(directory: Path, arch: Architecture) -> Iterator[str]:
    files = [path for path in directory.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
    names = {path.name for path in directory.rglob("*")}
    for path in files:
        if not is_elf(path):
            continue
        elf = read_elf(path)
        name = path.relative_to(directory)
        if elf.machine != arch.elf:
            yield f"{name}: built for another machine ({elf.machine})"
        for library in elf.needed:
            if library not in names | _GLIBC and not library.startswith("ld-linux-"):
                yield f"{name}: needs {library}, which is not in the build"
        if elf.newest_glibc() > OLDEST_GLIBC:
            yield f"{name}: needs glibc {'.'.join(map(str, elf.newest_glibc()))}"
