"""Writes the members of a layer's tar into a snapshot, in their order (ADR 0045).

What always holds:

- The tree is what containerd's Apply makes of the same layer (`pkg/archive/tar.go`): bytes, modes,
  owners, times, extended attributes, links, devices, whiteouts.
- Nothing is written outside `Target.upper` (`directories`), whatever the layer says.
- What Apply would refuse, or do in a way of its own, raises UnusualLayerError: Apply does it then.

The caller verifies the layer's digest, confines the process, and removes the snapshot after an
error. It needs CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP, and SYS_ADMIN for
`trusted.*` attributes. The umask of the process is changed meanwhile.
"""

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

from airside.containerd.layer_writer.directories import Directories, Directory
from airside.containerd.layer_writer.entries import Entries, is_directory
from airside.containerd.layer_writer.headers import iter_members, name_of
from airside.containerd.layer_writer.lower import LowerDirectories
from airside.containerd.layer_writer.member import DIRECTORY, FILE, SYMLINK, Member
from airside.containerd.layer_writer.target import LayerLimits, Target
from airside.core.errors import (
    AirsideError,
    LayerRefusedError,
    StorageFullError,
    StoreError,
    UnusualLayerError,
)

_WHITEOUT = b".wh."
_DISK = frozenset({errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: members, and the bytes of their files."""

    entries: int
    content_bytes: int


def write_layer(tar: memoryview | mmap.mmap, target: Target, limits: LayerLimits) -> Written:
    """Writes an uncompressed layer into a prepared snapshot's directories.

    Raises UnusualLayerError: remove the snapshot, and let containerd's Apply write the layer.
    LayerRefusedError: the layer is damaged or breaks a limit. StorageFullError, StoreError.
    """
    lower = LowerDirectories(target.lowers)
    directories = Directories(target.upper, lower, limits)
    with memoryview(tar) as view, contextlib.closing(directories), _umask(0):
        writer = _Writer(view, directories, limits)
        member = None
        try:
            for member in iter_members(view, limits):
                writer.add(member)
            writer.finish()
        except (AirsideError, OSError) as exc:
            raise _translated(exc, name_of(member) if member else "none yet") from exc
        return Written(writer.count, writer.content_bytes)


class _Writer:
    """Writes one layer."""

    def __init__(self, tar: memoryview, directories: Directories, limits: LayerLimits) -> None:
        self.count = self.content_bytes = 0
        self._directories, self._limits = directories, limits
        self._entries = Entries(tar, directories)
        self.finish = self._entries.finish

    def add(self, member: Member) -> None:
        self._check(member)
        above, _, name = member.path.rpartition(b"/")
        if not name:  # the root itself keeps its attributes
            return
        self._directories.trim()
        parent = self._directories.of(above)
        if name.startswith(_WHITEOUT):
            raise UnusualLayerError("a whiteout")
        path = parent.path + b"/" + name if parent.path else name
        try:
            self._make(member, parent, name, path)
        except FileExistsError:
            self._displace(parent, name, path)
            self._make(member, parent, name, path)

    def _check(self, member: Member) -> None:
        self.count += 1
        self.content_bytes += member.size
        limits = self._limits
        if self.count > limits.entries:
            raise LayerRefusedError(f"more than {limits.entries} entries")
        if self.content_bytes > limits.content_bytes:
            raise LayerRefusedError(f"more than {limits.content_bytes} bytes of files")
        if len(member.path) > limits.name_bytes and (
            len(member.path) > limits.path_bytes
            or max(map(len, member.path.split(b"/"))) > limits.name_bytes
        ):
            raise LayerRefusedError("a name that is too long")

    def _make(self, member: Member, parent: Directory, name: bytes, path: bytes) -> None:
        if member.kind == FILE:
            self._entries.file(member, parent, name)
        elif member.kind == DIRECTORY:
            self._entries.directory(member, parent, name, path)
        elif member.kind == SYMLINK:
            self._entries.symlink(member, parent, name)
        else:
            raise UnusualLayerError(f"a member of type {chr(member.kind)!r}")

    def _displace(self, parent: Directory, name: bytes, path: bytes) -> None:
        """Removes what is in the way of a member."""
        if is_directory(parent, name):
            raise UnusualLayerError("a directory is replaced")
        if self._directories.is_alias(path):
            raise UnusualLayerError("a link is replaced that members were written through")
        os.unlink(name, dir_fd=parent.descriptor)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _translated(error: AirsideError | OSError, name: str) -> AirsideError:
    """Returns an error as the caller may raise it, with the member's name."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            return StorageFullError(f"no space for {name}: {reason}", member=name)
        if error.errno in _DISK:
            return StoreError(f"cannot write {name}: {reason}", member=name)
        return UnusualLayerError(f"cannot write {name}: {reason}", member=name)
    if isinstance(error, LayerRefusedError | UnusualLayerError):
        return type(error)(f"{error.message} (member {name})", member=name)
    return error
