"""Whiteouts: members that say that a file, or all of a directory, of the layers below is deleted.

A whiteout is a member `.wh.<name>`; `.wh..wh..opq` makes its directory opaque.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from typing import Protocol

from airside.containerd.layer_writer.directories import Directory
from airside.containerd.layer_writer.member import Member
from airside.containerd.layer_writer.removal import clear, remove
from airside.core.errors import UnusualLayerError

PREFIX = b".wh."
_OPAQUE = b".wh..wh..opq"


class Whiteouts(Protocol):
    """Records deletions in the tree."""

    def wrote(self, path: bytes) -> None:
        """Notes that a member of this layer is at the path."""

    def apply(self, member: Member, parent: Directory, name: bytes, /) -> None:
        """Records a deletion. Raises OSError, UnusualLayerError."""


class OverlayWhiteouts:
    """Whiteouts as overlayfs reads them: devices 0/0, and an attribute of opaque directories."""

    def __init__(self, attribute: str) -> None:
        self._attribute = attribute

    def wrote(self, path: bytes) -> None:
        pass

    def apply(self, member: Member, parent: Directory, name: bytes) -> None:
        if name == _OPAQUE:
            os.setxattr(parent.descriptor, self._attribute, b"y")
            return
        deleted = _deleted(name)
        try:
            os.mknod(deleted, stat.S_IFCHR, dir_fd=parent.descriptor)
        except FileExistsError as exc:
            raise UnusualLayerError("a whiteout of a file of the same layer") from exc
        os.chown(deleted, member.uid, member.gid, dir_fd=parent.descriptor, follow_symlinks=False)


class Deletions:
    """Whiteouts in a copy of the layers below: the files are removed.

    `removing` is called with a path before it is removed, and may raise.
    """

    def __init__(self, removing: Callable[[bytes], None]) -> None:
        self._removing = removing
        self._wrote: set[bytes] = set()
        self._opaque: set[bytes] = set()

    def wrote(self, path: bytes) -> None:
        self._wrote.add(path)

    def apply(self, _member: Member, parent: Directory, name: bytes, /) -> None:
        if name == _OPAQUE:
            self._clear(parent)
            return
        deleted = _deleted(name)
        self._removing(parent.path_of(deleted))
        with contextlib.suppress(FileNotFoundError):
            remove(parent.descriptor, deleted)

    def _clear(self, parent: Directory) -> None:
        """Removes all of a directory that this layer did not list."""
        if parent.path in self._opaque:  # versions of containerd differ
            raise UnusualLayerError("a directory is made opaque twice")
        self._opaque.add(parent.path)
        clear(parent, self._wrote, self._removing)


def _deleted(name: bytes) -> bytes:
    """Returns the name that a whiteout deletes."""
    deleted = name[len(PREFIX) :]
    if deleted in (b"", b".", b"..") or deleted.startswith(PREFIX):
        raise UnusualLayerError("a whiteout without a name, or of AUFS")
    return deleted
