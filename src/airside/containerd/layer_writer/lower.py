"""The layers below, where a directory that the layer does not list has its mode and owner."""

import errno
import os
from collections.abc import Sequence

from airside.containerd.layer_writer.directories import Directories
from airside.containerd.layer_writer.target import LayerLimits
from airside.core.errors import UnusualLayerError

_MOST_OPEN = 400
_IGNORED = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EEXIST})


class LowerDirectories:
    """The directories of the layers below, the uppermost first. Close it."""

    def __init__(self, roots: Sequence[int], limits: LayerLimits) -> None:
        most = max(4, _MOST_OPEN // max(1, len(roots)))
        self._layers = [Directories(root, limits, most_open=most) for root in roots]

    def close(self) -> None:
        for layer in self._layers:
            layer.close()

    def dress(self, made: int, path: bytes) -> None:
        """Gives a new directory the attributes of the uppermost one of its path, as Apply does.

        Raises OSError, and UnusualLayerError if something else has the path there.
        """
        for layer in self._layers:
            layer.trim()
            try:
                found = layer.of(path)
            except FileNotFoundError:
                continue
            _copy(found.descriptor, made)
            return
        os.fchmod(made, 0o755)  # takes away what a parent's setgid gave


def _copy(source: int, made: int) -> None:
    """Copies owner, mode, times and attributes of a directory, but none that an overlay made."""
    attributes = os.fstat(source)
    os.chown(made, attributes.st_uid, attributes.st_gid)
    os.fchmod(made, attributes.st_mode & 0o7777)
    os.utime(made, ns=(attributes.st_atime_ns, attributes.st_mtime_ns))
    for key in os.listxattr(source):
        if key.startswith("system."):
            raise UnusualLayerError("a directory with an access control list")
        if not key.startswith("trusted."):
            _copy_xattr(source, made, key)


def _copy_xattr(source: int, made: int, key: str) -> None:
    try:
        os.setxattr(made, key, os.getxattr(source, key), os.XATTR_CREATE)
    except OSError as exc:
        if exc.errno not in _IGNORED:
            raise
