"""Tells a file that somebody else may have given a name in a watched directory: a hard link.

With `fs.protected_hardlinks`, Linux lets users link only what they may write. Without it, or where
root was made to link, a private file of root's can lie in a directory that others write to.
"""

import os
from pathlib import Path

from airside.archive.beneath.system_calls import NO_LINKS, openat2

_PROTECTED = Path("/proc/sys/fs/protected_hardlinks")
_FOR_ALL, _WRITABLE_BY_OTHERS = 0o004, 0o022


def may_be_foreign(descriptor: int, status: os.stat_result) -> bool:
    """Returns True for a private file with several names, one in a directory others may write to.

    Private: not everybody may read it, and root, we, or where links are not protected anybody
    owns it. Raises OSError.
    """
    if status.st_nlink < 2 or status.st_mode & _FOR_ALL:
        return False
    trusted = {0, os.geteuid()}
    if status.st_uid not in trusted and are_protected():
        return False
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    try:
        parent = openat2(-1, str(path.parent), os.O_PATH | os.O_DIRECTORY, NO_LINKS)
    except OSError:  # exchanged meanwhile, or an old kernel
        return True
    try:
        entry = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
        found = os.fstat(parent)
    except OSError:
        return True
    finally:
        os.close(parent)
    is_here = os.path.samestat(entry, status)
    is_trusted = found.st_uid in trusted | {status.st_uid}
    return not is_here or not is_trusted or bool(found.st_mode & _WRITABLE_BY_OTHERS)


def are_protected() -> bool:
    """Returns True if users can link only files that they may write."""
    try:
        return _PROTECTED.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
