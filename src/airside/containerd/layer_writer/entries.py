"""Makes files, directories and links with the attributes that containerd's Apply gives them.

The order matters, and is Apply's: content, owner, extended attributes, mode, times; chown(2) takes
setuid, setgid and capabilities away. What a new file has already is not set again: the umask is 0,
and its owner is ours.
"""

import os
import stat

from airside.containerd.layer_writer.directories import Directories, Directory
from airside.containerd.layer_writer.member import Member
from airside.core.errors import UnusualLayerError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = 0o7000


class Entries:
    """Makes entries in directories of the tree."""

    def __init__(self, tar: memoryview, directories: Directories) -> None:
        self._tar, self._directories = tar, directories
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._times: dict[bytes, tuple[int, int]] = {}

    def file(self, member: Member, parent: Directory, name: bytes) -> None:
        """Writes a regular file."""
        file = os.open(name, _NEW, member.mode, dir_fd=parent.descriptor)
        try:
            self._copy(member, file)
            chown = self._is_foreign(member, parent)
            if chown:
                os.chown(file, member.uid, member.gid)
            if member.xattrs:
                set_xattrs(file, member)
            if chown or member.mode & _SPECIAL:
                os.fchmod(file, member.mode)
            os.utime(file, ns=(member.atime, member.mtime))
        finally:
            os.close(file)

    def _copy(self, member: Member, file: int) -> None:
        position, end = member.data, member.data + member.size
        while position < end:
            position += os.write(file, self._tar[position:end])

    def _is_foreign(self, member: Member, parent: Directory) -> bool:
        return member.uid != self._uid or member.gid != self._gid or parent.inherits

    def directory(self, member: Member, parent: Directory, name: bytes, path: bytes) -> None:
        """Makes a directory, or gives an existing one the member's attributes."""
        try:
            os.mkdir(name, member.mode, dir_fd=parent.descriptor)
            plain = not (self._is_foreign(member, parent) or member.mode & _SPECIAL)
        except FileExistsError:
            if not is_directory(parent, name):
                raise
            plain = False
        if not plain or member.xattrs:
            self._dress(member, parent, name)
            self._directories.forget(path)
        self._times.pop(path, None)
        self._times[path] = member.atime, member.mtime

    def _dress(self, member: Member, parent: Directory, name: bytes) -> None:
        directory = os.open(name, _OPEN_DIRECTORY, dir_fd=parent.descriptor)
        try:
            os.chown(directory, member.uid, member.gid)
            if member.xattrs:
                set_xattrs(directory, member)
            os.fchmod(directory, member.mode)
        finally:
            os.close(directory)

    def symlink(self, member: Member, parent: Directory, name: bytes) -> None:
        """Makes a symbolic link."""
        if member.xattrs:
            raise UnusualLayerError("extended attributes of a symbolic link")
        os.symlink(member.link, name, dir_fd=parent.descriptor)
        if self._is_foreign(member, parent):
            own(member, parent, name)
        touch(member, parent, name)

    def finish(self) -> None:
        """Sets the times of the listed directories: files made in them have changed these."""
        for path, times in self._times.items():
            self._directories.trim()
            above, _, name = path.rpartition(b"/")
            parent = self._directories.of(above, make=False)
            os.utime(name, ns=times, dir_fd=parent.descriptor, follow_symlinks=False)

    def check_replaced(self, path: bytes) -> None:
        """Raises UnusualLayerError if a listed directory is replaced: Apply fails in the end."""
        below = path + b"/"
        if any(each == path or each.startswith(below) for each in self._times):
            raise UnusualLayerError("a listed directory is replaced")


def own(member: Member, parent: Directory, name: bytes) -> None:
    os.chown(name, member.uid, member.gid, dir_fd=parent.descriptor, follow_symlinks=False)


def touch(member: Member, parent: Directory, name: bytes) -> None:
    times = member.atime, member.mtime
    os.utime(name, ns=times, dir_fd=parent.descriptor, follow_symlinks=False)


def set_xattrs(descriptor: int, member: Member) -> None:
    """Sets extended attributes. `trusted.*` is left out, as Apply does."""
    for key, value in member.xattrs.items():
        if key.startswith(b"system."):  # an ACL also changes what files inside get
            raise UnusualLayerError("an access control list")
        if not key.startswith(b"trusted."):
            os.setxattr(descriptor, key, value)


def is_directory(parent: Directory, name: bytes) -> bool:
    found = os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)
    return stat.S_ISDIR(found.st_mode)
