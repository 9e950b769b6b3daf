"""A watched directory, below which its archives are opened. Blocking; thread-safe."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airside.archive.beneath.acting import Credentials, acting_as, can_act
from airside.archive.beneath.judge import LinkOutsideError
from airside.archive.beneath.names import may_be_foreign
from airside.archive.beneath.system_calls import (
    BENEATH,
    NO_LINKS,
    NO_MAGIC_LINKS,
    is_on_disk,
    openat2,
)
from airside.archive.beneath.walk import PATH, Opened, Walk
from airside.core.errors import ArchiveError, LinkRefusedError

_RULES = {
    "inside": "links out of it are not followed",
    "owner": (
        "links out of it are followed only to regular files that the link's owner may read and "
        "that root or the link's owner owns"
    ),
    "any": "links out of it are followed only to regular files on disk",
}
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Without O_NONBLOCK, what was a file when it was judged could block as something else."""
_WALK_INSTEAD = frozenset({errno.EXDEV, errno.ELOOP, errno.EAGAIN, errno.ENOSYS, errno.EPERM})
"""Errors after which a path is walked: a link leads out, or the kernel has no `openat2`."""


@dataclass(frozen=True, slots=True)
class Beneath:
    """Where the paths of archives may lead: below `root`, and where its setting `links` allows.

    Without a root, to where the process may read: for files that their reader names by hand. With
    `reader`, to where that user may: each file is opened with the rights of the user alone.
    """

    root: Path | None
    links: str = "owner"
    reader: Credentials | None = None

    @contextmanager
    def find(self, path: Path) -> Iterator[Opened]:
        """Open a path of any kind with O_PATH. Raises OSError, LinkRefusedError.

        A path that is not below the root is not found.
        """
        try:
            opened = self._find(path)
        except LinkOutsideError:
            raise self.refusal(path) from None
        with opened:
            yield opened

    @contextmanager
    def open(self, path: Path) -> Iterator[Opened]:
        """Open a regular file or a directory for reading.

        Raises OSError, LinkRefusedError, and ArchiveError for another kind of file.
        """
        with self.find(path) as found:
            status = found.stat()
            is_file = stat.S_ISREG(status.st_mode)
            is_known = is_file or stat.S_ISDIR(status.st_mode)
            if not is_known or not is_on_disk(found.descriptor):
                raise ArchiveError(f"{path} is not a regular file", path=path)
            if is_file and self.links != "any" and may_be_foreign(found.descriptor, status):
                raise self._foreign_name(path)
            descriptor = self._open_found(path, found)
        with Opened(descriptor, found.judge) as opened:
            yield opened

    def _open_found(self, path: Path, found: Opened) -> int:
        """Open for reading what was found; outside, as the link's owner where that is possible.

        The kernel then judges once more, with what neither mode nor ACL say (NFS, FUSE).
        """
        name = f"/proc/self/fd/{found.descriptor}"
        owner = None if found.judge is None else found.judge.reader
        if owner is None or not can_act():
            with acting_as(self.reader):
                return os.open(name, _READ)
        try:
            with acting_as(owner.credentials):
                return os.open(name, _READ)
        except PermissionError as exc:
            if exc.errno == errno.EPERM:  # a user whom this user namespace does not have
                return os.open(name, _READ)
            raise self.refusal(path) from None

    def stat(self, path: Path) -> os.stat_result:
        """Returns the stat of what a path leads to. Raises OSError, LinkRefusedError."""
        with self.find(path) as found:
            return found.stat()

    def stat_in(self, directory: Opened, path: Path) -> os.stat_result:
        """Returns the stat of what is in an open directory. Raises as `stat`."""
        if self.reader is not None:
            return self.stat(path)
        if directory.judge is None:
            status = os.stat(path.name, dir_fd=directory.descriptor, follow_symlinks=False)
            return self.stat(path) if stat.S_ISLNK(status.st_mode) else status
        entry = os.open(path.name, PATH | os.O_NOFOLLOW, dir_fd=directory.descriptor)
        with Opened(entry) as opened:
            if not stat.S_ISLNK(opened.stat().st_mode):
                try:
                    return directory.judge.check(entry)
                except LinkOutsideError:
                    raise self.refusal(path) from None
        return self.stat(path)

    def stat_entry(self, path: Path) -> os.stat_result:
        """Returns the stat of the path itself, which may be a link. Raises as `stat`."""
        with self.find(path.parent) as parent, acting_as(self.reader):
            return os.stat(path.name, dir_fd=parent.descriptor, follow_symlinks=False)

    def read_link(self, path: Path) -> str:
        """Returns the text of a symbolic link, "" for another file. Raises as `stat`."""
        with self.find(path.parent) as parent:
            try:
                with acting_as(self.reader):
                    return os.readlink(path.name, dir_fd=parent.descriptor)
            except OSError as exc:
                if exc.errno == errno.EINVAL:
                    return ""
                raise

    def is_empty(self, path: Path) -> bool:
        """Returns True for a directory that has no entry; never raises."""
        try:
            with self.open(path) as opened, os.scandir(opened.descriptor) as entries:
                return not any(True for _ in entries)
        except (OSError, ArchiveError):
            return False

    def is_directory(self, path: Path) -> bool:
        """Returns True if the path leads to a directory that may be read; never raises."""
        try:
            return stat.S_ISDIR(self.stat(path).st_mode)
        except (OSError, LinkRefusedError):
            return False

    def _foreign_name(self, path: Path) -> LinkRefusedError:
        return LinkRefusedError(
            f"{path} is one of several names (hard links) of a file that not everybody may read, "
            f"in a directory that others may write to, and links are followed as links = "
            f'"{self.links}" of the directory {self.root} says: copy the file, or change the '
            "setting",
            path=path,
            setting="links",
        )

    def _find(self, path: Path) -> Opened:
        if self.reader is not None:
            return self._find_as(path, self.reader)
        if self.root is None:
            return Opened(os.open(path, PATH))
        try:
            below = path.relative_to(self.root)
        except ValueError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        if ".." in below.parts:
            raise LinkOutsideError
        with self._open_root(self.root) as root:
            try:
                found = openat2(root.descriptor, str(below), PATH, BENEATH | NO_MAGIC_LINKS)
            except OSError as exc:
                if exc.errno not in _WALK_INSTEAD:
                    raise
                return Walk(root.descriptor, self.links, self._shortened).open(str(below))
            return Opened(found)

    def _find_as(self, path: Path, reader: Credentials) -> Opened:
        """Open what this user may reach. Links of `/proc` are ours, not the user's."""
        with acting_as(reader):
            try:
                return Opened(openat2(-1, str(path), PATH, NO_MAGIC_LINKS))
            except OSError as exc:
                if exc.errno not in {errno.ENOSYS, errno.EPERM}:
                    raise
                return Walk(None, "any", lambda _: None).open(str(path))

    def _open_root(self, root: Path) -> Opened:
        """Open the directory itself: a link in its path is judged too, unless it is root's."""
        try:
            directory = openat2(-1, str(root), PATH | os.O_DIRECTORY, NO_LINKS)
        except OSError as exc:
            if exc.errno not in _WALK_INSTEAD:
                raise
            return Walk(None, self.links, lambda _: None).open(str(root))
        return Opened(directory)

    def _shortened(self, target: str) -> str | None:
        """Returns the rest of an absolute path that leads below the root by its text, or None."""
        assert self.root is not None
        for root in (str(self.root), os.path.realpath(self.root)):
            if target == root or target.startswith(root.rstrip("/") + "/"):
                return target[len(root) :] or "."
        return None

    def refusal(self, path: Path) -> LinkRefusedError:
        """Returns the error for a path that leads where it may not."""
        return LinkRefusedError(
            f"{path} leads out of the watched directory {self.root} by a link, and "
            f'{_RULES[self.links]} (links = "{self.links}" of the directory): put the files into '
            "the directory, or change the setting",
            path=path,
            setting="links",
        )


ANYWHERE = Beneath(None, "any")
"""For a file that a user names by hand and may read."""
