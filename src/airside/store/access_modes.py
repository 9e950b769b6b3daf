"""Owner, group and modes of the data directory: only the agent's user reads what the store has.

What always holds, whatever the umask: the data directory has mode 0700, or 0750 with the group of
the setting `data_group`, which gets no further than the control socket: directories below it have
0700, files 0600. Blob files have 0444, since a container runtime may hold hard links to them; their
directories are closed. Blocking.
"""

import contextlib
import grp
import logging
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airside.core.errors import ConfigError, StoreError
from airside.store.filesystem import PRIVATE_DIRECTORY, PRIVATE_FILE

log = logging.getLogger("airside.node")

PRIVATE_UMASK = 0o077
_GROUP_DIRECTORY = 0o750
_OTHERS = 0o077
_OTHERS_WRITE = 0o022
_SHOWN_NAMES = 5
_DIRECTORIES = (
    *("oci", "oci/blobs", "oci/blobs/sha256", "oci/blobs/sha512"),
    *("ingest", "quarantine", "backup", "damaged"),
)


def group_id(group: str) -> int | None:
    """Returns the GID of a group's name or number, None for "". Raises ConfigError."""
    if not group:
        return None
    with contextlib.suppress(KeyError):
        return grp.getgrnam(group).gr_gid
    if group.isascii() and group.isdigit() and int(group) < 2**32 - 1:
        return int(group)
    raise ConfigError(f"data_group: there is no group {group!r} on this host", key="data_group")


def check_owner(data: Path) -> None:
    """Logs that DATA is another user's. Raises StoreError if we may not write it either."""
    uid, found = os.geteuid(), data.stat()
    if found.st_uid == uid:
        return
    owner = _user(found.st_uid)
    if uid == 0:
        log.warning("%s belongs to %s, who can read and change all of it", data, owner)
    elif os.access(data, os.R_OK | os.W_OK | os.X_OK):
        log.warning(
            "%s belongs to %s, not to %s: its mode %04o stays, and its owner can read it",
            *(data, owner, _user(uid), stat.S_IMODE(found.st_mode)),
        )
    else:
        raise StoreError(
            f"the data directory {data} belongs to {owner}, and this is {_user(uid)}",
            path=data,
            hint="run the command as its owner (sudo), or choose a directory of your own with "
            "--data",
        ) from PermissionError(data)


def restrict_data_directory(data: Path, group: str) -> None:
    """Closes an existing data directory to other users, and says so in the log if it was open.

    Another user's directory stays as it is, unless this is root. Raises ConfigError, OSError.
    """
    gid = group_id(group)
    with _opened(data, stat.S_ISDIR) as top:
        if top is None or not top.is_ours:
            return
        before = stat.S_IMODE(top.found.st_mode)
        if gid is not None and top.found.st_gid != gid:
            give_to_group(f"/proc/self/fd/{top.descriptor}", gid, f"{data} to the group {group}")
        changed = top.set_mode(PRIVATE_DIRECTORY if gid is None else _GROUP_DIRECTORY)
    was_open = changed and before & _OTHERS & ~(0o050 if gid is not None else 0)
    count = _restrict_contents(data)
    if was_open or count:
        log.warning(
            "%s was open to other users of this host (mode %04o, and %d entries in it): only %s "
            "may read it now%s",
            data,
            before,
            count,
            _user(os.geteuid()),
            _what_others_wrote(data) if before & _OTHERS_WRITE else "",
        )


def _what_others_wrote(data: Path) -> str:
    known, foreign = {0, os.geteuid(), data.stat().st_uid}, []
    for directory in (data, *(data / name for name in _DIRECTORIES)):
        with contextlib.suppress(OSError):
            foreign += [p for p in directory.iterdir() if p.lstat().st_uid not in known]
    names = ", ".join(str(path.relative_to(data)) for path in foreign[:_SHOWN_NAMES])
    theirs = f", and {len(foreign)} entries are theirs ({names})" if foreign else ""
    return f"; others could write there{theirs}: check it with airside verify"


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file or directory, pinned by a descriptor that reads nothing."""

    descriptor: int
    found: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.found.st_mode)

    @property
    def is_ours(self) -> bool:
        """True if this process may change the mode."""
        return os.geteuid() in {0, self.found.st_uid}

    def set_mode(self, mode: int) -> bool:
        """Returns True if the mode was another one. A file system without modes is logged."""
        if stat.S_IMODE(self.found.st_mode) == mode:
            return False
        path = f"/proc/self/fd/{self.descriptor}"
        try:
            os.chmod(path, mode)  # noqa: PTH101 - a descriptor
        except OSError as exc:
            name = os.readlink(path)  # noqa: PTH115 - a descriptor
            log.warning("other users may read %s: its mode cannot be set: %s", name, exc.strerror)
            return False
        return True


@contextlib.contextmanager
def _opened(path: Path, is_kind: object = None, *, follow: bool = True) -> Iterator[_Opened | None]:
    """Pins what is at the path. Yields None if it is absent or of another kind."""
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        yield None
        return
    try:
        found = os.fstat(descriptor)
        yield _Opened(descriptor, found) if callable(is_kind) and is_kind(found.st_mode) else None
    finally:
        os.close(descriptor)


def _restrict_contents(data: Path) -> int:
    """Closes the directories and files of the store. Returns how many were open.

    A link is followed only where this user or root made it, and only to a directory.
    """
    count = 0
    for name in _DIRECTORIES:
        path = data / name
        with _opened(path, stat.S_ISDIR, follow=_is_own_link(path)) as found:
            count += _closed(found, PRIVATE_DIRECTORY)
    for directory in (data, data / "oci"):
        with contextlib.suppress(FileNotFoundError):
            for entry in list(directory.iterdir()):
                with _opened(entry, stat.S_ISREG, follow=False) as found:
                    count += _closed(found, PRIVATE_FILE)
    return count


def give_to_owner(data: Path) -> None:
    """As root: gives what root has made in another user's data directory to that user. Never fails.

    Their agent could not read it. Blobs stay root's: everybody who gets there may read them. A file
    with several names may be anybody's, and stays too.
    """
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        owner = data.stat()
        if owner.st_uid == 0:
            return
        for directory in (
            data,
            *(data / name for name in _DIRECTORIES if not name.startswith("oci/blobs/")),
        ):
            if directory.is_symlink() or not directory.is_dir():
                continue
            for path in list(directory.iterdir()):
                _give(path, owner)


def _give(path: Path, owner: os.stat_result) -> None:
    with contextlib.suppress(OSError), _opened(path, _is_plain, follow=False) as found:
        is_ours = found is not None and found.found.st_uid == 0
        if found is not None and is_ours and (found.is_directory or found.found.st_nlink == 1):
            os.chown(f"/proc/self/fd/{found.descriptor}", owner.st_uid, owner.st_gid)


def _is_plain(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _is_own_link(path: Path) -> bool:
    try:
        return path.lstat().st_uid in {0, os.geteuid()}
    except OSError:
        return False


def _closed(found: _Opened | None, mode: int) -> bool:
    """Returns True if it was open to others."""
    if found is None or not found.is_ours or not found.found.st_mode & _OTHERS:
        return False
    return found.set_mode(mode)


def give_to_group(path: Path | str, gid: int, what: str) -> None:
    """Gives a file to the group of `data_group`. `what`: in words. Raises ConfigError."""
    try:
        os.chown(path, -1, gid)
    except OSError as exc:
        raise ConfigError(
            f"data_group: cannot give {what}: {exc.strerror}",
            key="data_group",
            hint="run the agent as root or as a member of the group",
        ) from exc


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return f"the user {pwd.getpwuid(uid).pw_name}"
    return f"the user {uid}"
