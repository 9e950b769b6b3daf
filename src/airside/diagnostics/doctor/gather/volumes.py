"""File systems, permissions and labels of paths. Blocking."""

import os
from contextlib import suppress
from pathlib import Path

from airside.diagnostics.doctor.facts import Sight, Volume
from airside.importer.watch.mount_table import MountTable

_MOUNTINFO = Path("/proc/self/mountinfo")
_LABEL = "security.selinux"


def volume_of(path: Path) -> Volume:
    """The file system that a path lies on, or will once it is made. Raises OSError."""
    there = nearest(path)
    text = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    mount = MountTable.parse(text).covering(os.path.realpath(there))
    told = os.statvfs(there)
    return Volume(
        kind=mount.kind,
        point=mount.point,
        is_remote=mount.is_remote,
        is_read_only=bool(told.f_flag & os.ST_RDONLY),
        total_bytes=told.f_blocks * told.f_frsize,
        free_bytes=told.f_bavail * told.f_frsize,
        inodes=told.f_files,
        free_inodes=told.f_favail,
    )


def nearest(path: Path) -> Path:
    """The path, or the nearest directory above it that is there and may be seen."""
    for place in (path, *path.parents):
        with suppress(OSError):
            place.stat()
            return place
    return Path("/")


def sight_of(path: Path) -> Sight:
    """Whether this user can see that the path is there."""
    try:
        path.stat()
    except PermissionError:
        return "forbidden"
    except OSError:
        return "absent"
    return "visible"


def may(path: Path, mode: int) -> bool:
    """Whether this process may read (R_OK), write (W_OK), search (X_OK) it."""
    return os.access(path, mode, effective_ids=True)


def label_of(path: Path) -> str:
    """SELinux's label; empty where there is none, or it may not be read."""
    with suppress(OSError):
        return os.getxattr(path, _LABEL).decode("ascii", "replace").rstrip("\0")
    return ""
