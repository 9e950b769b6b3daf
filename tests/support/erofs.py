"""erofs-utils 1.8 of Debian's trixie, with the libraries that it needs, readable by every user.

The installed ones are used where they are new enough. They are copied out of the cache, which lies
in root's home: the index of a layer is made by `nobody`.
"""

import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from support import debian
from support.containerd import Containerd
from support.waiting import LIMIT_SECONDS

SUITE = "trixie"
PROGRAMS = ("mkfs.erofs", "fsck.erofs", "dump.erofs")
LIBRARIES = (
    "libc6",
    "libselinux1",
    "libuuid1",
    "liblz4-1",
    "liblzma5",
    "zlib1g",
    "libdeflate0",
    "libzstd1",
    "libxxhash0",
    "libpcre2-8-0",
)
_OLDEST = (1, 8)


def is_in_kernel() -> bool:
    """Returns True if the running kernel mounts erofs now."""
    return "\terofs\n" in Path("/proc/filesystems").read_text("ascii")


@functools.cache
def programs() -> Path:
    """The directory of `PROGRAMS`. Raises UnreachableError."""
    installed = shutil.which("mkfs.erofs")
    if installed and _version(Path(installed)) >= _OLDEST:
        return Path(installed).parent
    home = scratch()
    libraries = home / "lib"
    libraries.mkdir()
    for package in LIBRARIES:
        for found in debian.unpacked(SUITE, package).rglob("*.so*"):
            if found.is_file() and not (libraries / found.name).exists():
                shutil.copy(found, libraries / found.name)
    [loader] = libraries.glob("ld-linux*.so.*")
    for name in PROGRAMS:
        program = home / f"{name}.program"
        shutil.copy(debian.unpacked(SUITE, "erofs-utils") / "usr/bin" / name, program)
        script = home / name
        script.write_text(
            f'#!/bin/sh\nexec {loader} --library-path {libraries} {program} "$@"\n', "ascii"
        )
    for path in home.rglob("*"):
        path.chmod(0o755)
    return home


def scratch() -> Path:
    """Returns a new directory that every user may read, deleted when the tests end."""
    home = Path(tempfile.mkdtemp(prefix="airside-erofs-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    home.chmod(0o755)
    return home


def _version(program: Path) -> tuple[int, ...]:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
    )
    found = re.search(r"erofs-utils\S* (\d+)\.(\d+)|(\d+)\.(\d+)", done.stdout)
    return tuple(int(part) for part in found.groups() if part) if found else (0,)


def environ() -> Mapping[str, str]:
    """The variables with which containerd and the agent find the programs."""
    return {"PATH": os.pathsep.join([str(programs()), os.environ["PATH"]])}


def root_of(containerd: Containerd) -> Path:
    return containerd.root / "io.containerd.snapshotter.v1.erofs"


def layer_files(containerd: Containerd) -> list[Path]:
    """The layers of all snapshots, in the order in which they were prepared."""
    found = root_of(containerd).glob("snapshots/*/layer.erofs")
    return sorted(found, key=lambda path: int(path.parent.name))


def check(layer: Path) -> None:
    """Has fsck.erofs read all files of a layer."""
    run("fsck.erofs", layer)


def run(program: str, *words: object) -> str:
    """Runs one of `PROGRAMS`, which must end well. Returns what it said."""
    done = subprocess.run(
        [programs() / program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, f"{program} {words}: {done.stdout}{done.stderr}"
    return done.stdout
