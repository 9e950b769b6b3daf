"""Finds the host's files: below `/`, or below the directory that AIRSIDE_HOST_ROOT names.

All code that searches the host's containerd, kubelet, mirror settings and default directories uses
this module, so that an agent in a container sees the host below a mount, and a test owns its host.
Files of this process (`/proc/self`, `/sys`, a path that the user gave) are not concerned.
"""

import os
from pathlib import Path

HOST_ROOT = "AIRSIDE_HOST_ROOT"


def host_root() -> Path:
    """Returns the directory of the host's `/`. The variable is read at each call."""
    return Path(os.environ.get(HOST_ROOT) or "/")


def on_host(path: str | Path) -> Path:
    """Returns the path at which an absolute path of the host is reached from here."""
    return host_root() / str(path).lstrip("/")


def below(root: Path, path: str | Path) -> Path:
    """Returns where a path that a file of the host names is reached, if its `/` is this root."""
    return Path(path) if Path(path).is_relative_to(root) else root / str(path).lstrip("/")


def as_named(path: str | Path) -> Path:
    """Returns where a path that a process names is reached, whether it is of the host or of ours.

    It is the host's if its directory is there.
    """
    found = below(host_root(), path)
    return found if os.path.lexists(found.parent) else Path(path)


def leaves_host(path: Path) -> bool:
    """Returns True if a path below a host root other than `/` leads out of it by a link.

    An absolute link of that host means a file of its own, and here one of this machine.
    """
    root = host_root()
    if root == Path("/") or not path.is_relative_to(root):
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def in_host(path: Path) -> Path:
    """Returns the path by which the host itself knows what is reached by this one."""
    root = host_root()
    return Path("/") / path.relative_to(root) if path.is_relative_to(root) else path
