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

from airside.containerd.layer_writer.content import Content
from airside.containerd.layer_writer.directories import Directories, Directory
from airside.containerd.layer_writer.entries import Entries
from airside.containerd.layer_writer.headers import iter_members, name_of
from airside.containerd.layer_writer.listed import ListedDirectories
from airside.containerd.layer_writer.lower import LowerDirectories
from airside.containerd.layer_writer.member import DIRECTORY, FILE, LINK, SYMLINK, Member
from airside.containerd.layer_writer.removal import remove
from airside.containerd.layer_writer.target import LayerLimits, Target, WhiteoutForm
from airside.containerd.layer_writer.whiteouts import (
    PREFIX,
    Deletions,
    OverlayWhiteouts,
    Whiteouts,
)
from airside.core.errors import (
    AirsideError,
    LayerRefusedError,
    StorageFullError,
    StoreError,
    UnusualLayerError,
)

_DISK = frozenset({errno.EIO, errno.EROFS, errno.ENOMEM, errno.ESTALE})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: members, and the bytes of their files."""

    entries: int
    content_bytes: int


def write_layer(
    tar: memoryview | mmap.mmap, target: Target, limits: LayerLimits, *, file: int | None = None
) -> Written:
    """Writes an uncompressed layer into a prepared snapshot's directories.

    `file` is a descriptor of the file that `tar` maps from its first byte on: copying is cheaper
    with it.

    Raises UnusualLayerError: remove the snapshot, and let containerd's Apply write the layer.
    LayerRefusedError: the layer is damaged or breaks a limit. StorageFullError, StoreError.
    """
    with (
        memoryview(tar) as view,
        contextlib.closing(_Writer(Content(view, file), target, limits)) as writer,
    ):
        member = None
        try:
            with _umask(0):
                for member in iter_members(view, limits):
                    writer.add(member)
                writer.finish()
        except (AirsideError, OSError) as exc:
            raise _translated(exc, name_of(member) if member else "none yet") from exc
        return Written(writer.count, writer.content_bytes)


class _Writer:
    """Writes one layer. Close it."""

    def __init__(self, content: Content, target: Target, limits: LayerLimits) -> None:
        self.count = self.content_bytes = 0
        self._limits = limits
        self._directories = Directories(target.upper, limits)
        self._lower = LowerDirectories(target.lowers, limits)
        self._listed = ListedDirectories(self._directories)
        self._entries = Entries(content, self._directories)
        self._whiteouts: Whiteouts
        if target.whiteouts is WhiteoutForm.DELETION:
            self._whiteouts = Deletions(self._removing)
        else:
            self._whiteouts = OverlayWhiteouts(target.whiteouts.value)

    def close(self) -> None:
        self._directories.close()
        self._lower.close()

    def finish(self) -> None:
        self._listed.set_times()

    def add(self, member: Member) -> None:
        self._check(member)
        above, _, name = member.path.rpartition(b"/")
        if not name:  # the root itself keeps its attributes
            return
        self._directories.trim()
        parent = self._directories.of(above, self._lower.dress)
        if name.startswith(PREFIX):
            self._whiteouts.apply(member, parent, name)
            return
        try:
            self._make(member, parent, name)
        except FileExistsError:
            self._removing(parent.path_of(name))
            remove(parent.descriptor, name)
            self._make(member, parent, name)
        self._whiteouts.wrote(parent.path_of(name))

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

    def _make(self, member: Member, parent: Directory, name: bytes) -> None:
        kind = member.kind
        if kind == FILE:
            self._entries.file(member, parent, name)
        elif kind == DIRECTORY:
            self._entries.directory(member, parent, name)
            self._listed.add(parent.path_of(name), member)
        elif kind == SYMLINK:
            self._entries.symlink(member, parent, name)
        elif kind == LINK:
            self._entries.link(member, parent, name)
        else:
            self._entries.node(member, parent, name)

    def _removing(self, path: bytes) -> None:
        """Is called before a file or directory is removed."""
        self._listed.check_removed(path)
        self._directories.forget(path)


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
