"""The open directories of the tree that is written, by path.

No step follows a link: each directory is opened by its name in the one above it, with O_NOFOLLOW.
A link among the parents of a member is read and walked from the root, as if that were `/`
(continuity's `fs.RootPath`). So no path leads out, whoever changes the tree at the same time.
"""

import os
import stat

from airside.containerd.layer_writer.lower import LowerDirectories
from airside.containerd.layer_writer.target import LayerLimits
from airside.core.errors import LayerRefusedError, UnusualLayerError

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 200
_MOST_LINKS = 40


class Directory:
    """An open directory. `path` has no link in it; `inherits`: new files get its group."""

    __slots__ = ("descriptor", "inherits", "path")

    def __init__(self, descriptor: int, path: bytes) -> None:
        self.descriptor, self.path = descriptor, path
        self.inherits = bool(os.fstat(descriptor).st_mode & stat.S_ISGID)


class Directories:
    """Opens directories below `root`, makes missing ones, and keeps some open. Close it."""

    def __init__(self, root: int, lower: LowerDirectories, limits: LayerLimits) -> None:
        self._root = Directory(root, b"")
        self._lower, self._limits = lower, limits
        self._open: dict[bytes, Directory] = {}
        self._aliases: dict[bytes, bytes] = {}
        """Paths that lead through a link, and where they lead."""
        self._links = 0

    def close(self) -> None:
        for directory in self._open.values():
            os.close(directory.descriptor)
        self._open.clear()

    def trim(self) -> None:
        """Closes the oldest ones if too many are open; others' descriptors stay valid no longer."""
        if len(self._open) > _MOST_OPEN:
            for path in list(self._open)[: _MOST_OPEN // 2]:
                os.close(self._open.pop(path).descriptor)

    def of(self, path: bytes, *, make: bool = True) -> Directory:
        """Returns a directory, made with its parents if it is missing.

        Valid until `trim` or `forget`. Raises LayerRefusedError, UnusualLayerError, OSError.
        """
        directory = self._open.get(path)
        if directory is not None:
            return directory
        if not path:
            return self._root
        if path in self._aliases:
            return self.of(self._aliases[path], make=make)
        if path.count(b"/") >= self._limits.depth:
            raise LayerRefusedError(f"directories deeper than {self._limits.depth}")
        return self._enter(path, make=make)

    def _enter(self, path: bytes, *, make: bool) -> Directory:
        above, _, name = path.rpartition(b"/")
        parent = self.of(above, make=make)
        real = parent.path + b"/" + name if parent.path else name
        if real != path:
            self._aliases[path] = real
            return self.of(real, make=make)
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=parent.descriptor)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(name, 0o755, dir_fd=parent.descriptor)
            descriptor = os.open(name, _FLAGS, dir_fd=parent.descriptor)
            try:
                self._lower.copy_to(descriptor, path)
            except BaseException:
                os.close(descriptor)
                raise
        except NotADirectoryError:
            self._aliases[path] = self._followed(parent, name)
            return self.of(self._aliases[path], make=make)
        found = self._open[path] = Directory(descriptor, path)
        return found

    def _followed(self, parent: Directory, name: bytes) -> bytes:
        """Returns where a link among the parents leads. Raises UnusualLayerError if nowhere."""
        self._links += 1
        if self._links > _MOST_LINKS:
            raise UnusualLayerError("links among the parents of a member lead in a circle")
        try:
            target = os.readlink(name, dir_fd=parent.descriptor)
            real = b"" if target.startswith(b"/") else parent.path
            for part in target.split(b"/"):
                if part == b"..":
                    real = real.rpartition(b"/")[0]
                elif part not in (b"", b"."):
                    real = self.of(real + b"/" + part if real else part, make=False).path
        except OSError as exc:
            raise UnusualLayerError(f"a file among the parents of a member: {exc}") from exc
        finally:
            self._links -= 1
        return real

    def forget(self, path: bytes) -> None:
        """Closes what is open at a path that was replaced, and below it."""
        below = path + b"/"
        for each in [p for p in self._open if p == path or p.startswith(below)]:
            os.close(self._open.pop(each).descriptor)

    def is_alias(self, path: bytes) -> bool:
        """Returns True if a member was written through a link at this path."""
        return path in self._aliases
