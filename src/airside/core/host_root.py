"""Where the files of this host are: below `/`, or below the directory that AIRSIDE_HOST_ROOT names.

Everything that looks for the host's containerd, kubelet, mirror settings and default directories
asks here, so that an agent in a container sees the host below a mount, and a test owns its host.
What belongs to this process (`/proc/self`, `/sys`, a path that the user gave) is not concerned.
"""

import os
from pathlib import Path

HOST_ROOT = "AIRSIDE_HOST_ROOT"


def host_root() -> Path:
    """The directory that stands for the host's `/`; read anew at each call."""
    return Path(os.environ.get(HOST_ROOT) or "/")


def on_host(path: str | Path) -> Path:
    """An absolute path of the host, as it is reached from here."""
    return host_root() / str(path).lstrip("/")
