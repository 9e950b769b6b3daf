"""Makes files, directories, links and devices with the attributes that containerd's Apply gives.

The order matters, and is Apply's: content, owner, extended attributes, mode, times; chown(2) takes
setuid, setgid and capabilities away. What a new file has already is not set again: the umask is 0,
and its owner is ours.
"""

import errno
import os
import stat

from airside.containerd.layer_writer.content import Content
from airside.containerd.layer_writer.directories import Directories, Directory
from airside.containerd.layer_writer.member import BLOCK, CHARACTER, Member
from airside.core.errors import UnusualLayerError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SPECIAL = 0o7000
_NODES = {BLOCK: stat.S_IFBLK, CHARACTER: stat.S_IFCHR}


class Entries:
    """Makes entries in directories of the tree. Each raises FileExistsError, OSError.

    UnusualLayerError: Apply does it in a way of its own.
    """

    def __init__(self, content: Content, directories: Directories) -> None:
        self._content, self._directories = content, directories
        self._uid, self._gid = os.geteuid(), os.getegid()

    def _is_foreign(self, member: Member, parent: Directory) -> bool:
        """Returns True if a new file has not the member's owner and mode yet."""
        return member.uid != self._uid or member.gid != self._gid or parent.inherits

    def file(self, member: Member, parent: Directory, name: bytes) -> None:
        """Writes a regular file."""
        file = os.open(name, _NEW, member.mode, dir_fd=parent.descriptor)
        try:
            if member.size:
                self._content.copy(member.data, member.size, file)
            if self._is_foreign(member, parent) or member.xattrs or member.mode & _SPECIAL:
                _dress(file, member)
            os.utime(file, ns=(member.atime, member.mtime))
        finally:
            os.close(file)

    def directory(self, member: Member, parent: Directory, name: bytes) -> None:
        """Makes a directory, or gives an existing one the member's attributes, but no times."""
        try:
            os.mkdir(name, member.mode, dir_fd=parent.descriptor)
        except FileExistsError:
            if not stat.S_ISDIR(_stat(parent, name).st_mode):
                raise
        else:
            foreign = self._is_foreign(member, parent)
            if not (foreign or member.xattrs or member.mode & _SPECIAL):
                return
        directory = os.open(name, _EXISTING | os.O_DIRECTORY, dir_fd=parent.descriptor)
        try:
            _dress(directory, member)
        finally:
            os.close(directory)
        self._directories.close_at(parent.path_of(name))

    def symlink(self, member: Member, parent: Directory, name: bytes) -> None:
        """Makes a symbolic link."""
        os.symlink(member.link, name, dir_fd=parent.descriptor)
        if self._is_foreign(member, parent):
            own(member, parent, name)
        self._end(member, parent, name)

    def node(self, member: Member, parent: Directory, name: bytes) -> None:
        """Makes a device or a FIFO."""
        mode = member.mode | _NODES.get(member.kind, stat.S_IFIFO)
        os.mknod(name, mode, member.device, dir_fd=parent.descriptor)
        if self._is_foreign(member, parent):
            own(member, parent, name)
            if member.mode & _SPECIAL:
                raise UnusualLayerError("a device with a special mode")
        self._end(member, parent, name)

    def link(self, member: Member, parent: Directory, name: bytes) -> None:
        """Makes a hard link, and gives its file the attributes of this member."""
        above, _, target = member.link.rpartition(b"/")
        source = self._directories.of(above)
        os.link(
            target,
            name,
            src_dir_fd=source.descriptor,
            dst_dir_fd=parent.descriptor,
            follow_symlinks=False,
        )
        own(member, parent, name)
        mode = _stat(parent, name).st_mode
        if stat.S_ISREG(mode) and (member.xattrs or mode & 0o7777 != member.mode):
            file = os.open(name, _EXISTING, dir_fd=parent.descriptor)
            try:
                _set_xattrs(file, member)
                os.fchmod(file, member.mode)
                os.utime(file, ns=(member.atime, member.mtime))
            finally:
                os.close(file)
            return
        if not stat.S_ISLNK(mode) and mode & 0o7777 != member.mode:
            raise UnusualLayerError("a hard link to a device, of another mode")
        self._end(member, parent, name)

    def _end(self, member: Member, parent: Directory, name: bytes) -> None:
        """Sets the times of what is not open."""
        if any(not key.startswith(b"trusted.") for key in member.xattrs):
            raise UnusualLayerError("extended attributes of a link or device")
        times = member.atime, member.mtime
        os.utime(name, ns=times, dir_fd=parent.descriptor, follow_symlinks=False)


def own(member: Member, parent: Directory, name: bytes) -> None:
    os.chown(name, member.uid, member.gid, dir_fd=parent.descriptor, follow_symlinks=False)


def _stat(parent: Directory, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)


def _dress(descriptor: int, member: Member) -> None:
    os.chown(descriptor, member.uid, member.gid)
    _set_xattrs(descriptor, member)
    os.fchmod(descriptor, member.mode)


def _set_xattrs(descriptor: int, member: Member) -> None:
    """Sets extended attributes. Leaves out `trusted.*`, and what the file system has none of."""
    for key, value in member.xattrs.items():
        if key.startswith(b"system."):  # an ACL also changes what files inside get
            raise UnusualLayerError("an access control list")
        if key.startswith(b"trusted."):
            continue
        try:
            os.setxattr(descriptor, key, value)
        except OSError as exc:
            if exc.errno != errno.ENOTSUP:
                raise
