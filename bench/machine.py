"""What the figures depend on: the machine, the programs' versions, the state of the tree."""

import mmap
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from support.containerd import Containerd


def machine() -> dict[str, Any]:
    """Returns the processors, memory and kernel."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    total = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return {
        "cores": os.cpu_count(),
        "processor": names[0] if names else os.uname().machine,
        "memory_gb": round(int(total) / 1e6),
        "kernel": os.uname().release,
    }


def touch_memory(gigabytes: int = 3) -> None:
    """Uses free memory and frees it again, right before something is measured.

    A virtual machine may give free memory back to its host within seconds (free page reporting).
    Who uses it next pays for it: writing 765 MB took 1.8 s of processor time instead of 0.35.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, gigabytes << 30, flags=flags).close()


def today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def commit() -> str:
    """Returns the commit of the tree that is measured, with `+` if its source has changes."""
    name = _git("rev-parse", "--short=8", "HEAD")
    return name + ("+" if _git("status", "--porcelain", ":/src") else "")


def _git(*words: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def version_of(containerd: str) -> str:
    """Returns the full version of the containerd that `--containerd` names."""
    words = [Containerd(containerd).programs / "containerd", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.split()[2]
