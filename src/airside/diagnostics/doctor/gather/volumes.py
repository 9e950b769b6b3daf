"""File systems, permissions and SELinux labels of paths. Blocking."""

import os
from contextlib import suppress
from pathlib import Path

from airside.diagnostics.doctor.facts import Sight, Volume
from airside.importer.watch.mount_table import MountTable

_MOUNTINFO = Path("/proc/self/mountinfo")
_LABEL = "security.selinux"


def volume_of(path: Path) -> Volume:
    """Returns the file system of a path, which may not exist yet. Raises OSError."""
    there = nearest(path)
    text = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    mount = MountTable.parse(text).covering(os.path.realpath(there))
    status = os.statvfs(there)
    return Volume(
        kind=mount.kind,
        point=mount.point,
        is_remote=mount.is_remote,
        is_read_only=bool(status.f_flag & os.ST_RDONLY),
        total_bytes=status.f_blocks * status.f_frsize,
        free_bytes=status.f_bavail * status.f_frsize,
        inodes=status.f_files,
        free_inodes=status.f_favail,
    )


def nearest(path: Path) -> Path:
    """Returns the path, or its nearest visible ancestor."""
    for place in (path, *path.parents):
        with suppress(OSError):
            place.stat()
            return place
    return Path("/")


def sight_of(path: Path) -> Sight:
    """Returns the visibility of the path for this user."""
    try:
        path.stat()
    except PermissionError:
        return "forbidden"
    except OSError:
        return "absent"
    return "visible"


def may(path: Path, mode: int) -> bool:
    """Returns True if this process may read (R_OK), write (W_OK) or search (X_OK) the path."""
    return os.access(path, mode, effective_ids=True)


def label_of(path: Path) -> str:
    """Returns the SELinux label; '' if there is none or it is unreadable."""
    with suppress(OSError):
        return os.getxattr(path, _LABEL).decode("ascii", "replace").rstrip("\0")
    return ""
