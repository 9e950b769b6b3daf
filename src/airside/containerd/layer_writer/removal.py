"""Removes files and whole directories by descriptors, without following links."""

import contextlib
import os
from collections.abc import Callable

from airside.containerd.layer_writer.directories import FLAGS, Directory
from airside.core.errors import UnusualLayerError

_DEEPEST = 300


def remove(parent: int, name: bytes, depth: int = 0) -> None:
    """Removes what has the name, a directory with all that is in it. Raises OSError."""
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        if depth > _DEEPEST:
            raise UnusualLayerError(f"directories deeper than {_DEEPEST} are removed") from None
        directory = os.open(name, FLAGS, dir_fd=parent)
        try:
            for each in names_in(directory):
                remove(directory, each, depth + 1)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=parent)


def names_in(descriptor: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(descriptor)]


def clear(directory: Directory, kept: set[bytes], removing: Callable[[bytes], None]) -> None:
    """Removes what is in a directory, but for paths in `kept`, and looks into those likewise.

    `removing` is called with each path before it is removed.
    """
    _Clearing(kept, removing).clear(directory.descriptor, directory.path, 0)


class _Clearing:
    def __init__(self, kept: set[bytes], removing: Callable[[bytes], None]) -> None:
        self._kept, self._removing = kept, removing

    def clear(self, descriptor: int, path: bytes, depth: int) -> None:
        if depth > _DEEPEST:
            raise UnusualLayerError(f"directories deeper than {_DEEPEST} are removed")
        for name in names_in(descriptor):
            below = path + b"/" + name if path else name
            if below not in self._kept:
                self._removing(below)
                remove(descriptor, name, depth)
                continue
            with contextlib.suppress(NotADirectoryError):
                directory = os.open(name, FLAGS, dir_fd=descriptor)
                try:
                    self.clear(directory, below, depth + 1)
                finally:
                    os.close(directory)
