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
