"""The directories that a layer lists: their times are set at the end.

Files that are made in a directory change its times.
"""

import os

from airside.containerd.layer_writer.directories import Directories
from airside.containerd.layer_writer.member import Member
from airside.core.errors import UnusualLayerError


class ListedDirectories:
    """Remembers the times of the directories that a layer lists, and sets them."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._times: dict[bytes, tuple[int, int]] = {}
        self._above: set[bytes] = set()
        """The listed directories, and all above them."""

    def add(self, path: bytes, member: Member) -> None:
        self._times[path] = member.atime, member.mtime
        while path and path not in self._above:
            self._above.add(path)
            path = path.rpartition(b"/")[0]

    def check_removed(self, path: bytes) -> None:
        """Raises UnusualLayerError for a listed directory, or one above: Apply fails in the end."""
        if path in self._above:
            raise UnusualLayerError("a directory that the layer lists is removed by it")

    def set_times(self) -> None:
        for path, times in self._times.items():
            self._directories.trim()
            above, _, name = path.rpartition(b"/")
            parent = self._directories.of(above).descriptor
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
