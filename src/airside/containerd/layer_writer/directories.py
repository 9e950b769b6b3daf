"""Open directories of a tree, by path.

No step follows a link: each directory is opened by its name in the one above it, with O_NOFOLLOW.
A link among the parents of a member is read and walked from the root, as if that were `/`
(continuity's `fs.RootPath`). So no path leads out, whoever changes the tree at the same time.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from airside.containerd.layer_writer.target import LayerLimits
from airside.core.errors import LayerRefusedError, UnusualLayerError

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Of open(2): a directory itself, never where a link leads."""
_MOST_LINKS = 40


class Directory:
    """An open directory. `path` has no link in it.

    `inherits`: new files may get its group instead of ours, by its setgid bit or since the file
    system is mounted with `grpid`.
    """

    __slots__ = ("descriptor", "inherits", "path")

    def __init__(self, descriptor: int, path: bytes) -> None:
        self.descriptor, self.path = descriptor, path
        found = os.fstat(descriptor)
        self.inherits = bool(found.st_mode & stat.S_ISGID) or found.st_gid != os.getegid()
        if _has_default_acl(descriptor):
            raise UnusualLayerError("a directory whose access control list new files get")

    def path_of(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


def _has_default_acl(descriptor: int) -> bool:
    """Returns True if new files in a directory have other modes than they are made with."""
    try:
        return "system.posix_acl_default" in os.listxattr(descriptor)
    except OSError:  # no extended attributes here
        return False


@contextlib.contextmanager
def _closed_on_error(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


class Directories:
    """Opens directories below `root`, and keeps some open. Close it; the caller closes `root`."""

    def __init__(self, root: int, limits: LayerLimits, *, most_open: int = 200) -> None:
        self._root = Directory(root, b"")
        self._limits, self._most_open = limits, most_open
        self._open: dict[bytes, Directory] = {}
        self._aliases: dict[bytes, bytes] = {}
        """Paths that lead through a link, and where they lead."""
        self._entered: set[bytes] = set()
        """Every path that was in one of both, and so all above it: most files are in none."""
        self._links = 0

    def close(self) -> None:
        for directory in self._open.values():
            os.close(directory.descriptor)
        self._open.clear()

    def trim(self) -> None:
        """Closes the oldest ones if too many are open: they are valid no longer."""
        if len(self._open) > self._most_open:
            for path in list(self._open)[: self._most_open // 2]:
                os.close(self._open.pop(path).descriptor)

    def of(self, path: bytes, made: Callable[[int, bytes], None] | None = None) -> Directory:
        """Returns a directory. With `made`, missing ones are made, and given to it.

        Valid until `trim` or `forget`. Raises LayerRefusedError, UnusualLayerError, and OSError;
        without `made` FileNotFoundError.
        """
        directory = self._open.get(path)
        if directory is not None:
            return directory
        if not path:
            return self._root
        if path in self._aliases:
            return self.of(self._aliases[path], made)
        if path.count(b"/") >= self._limits.depth:
            raise LayerRefusedError(f"directories deeper than {self._limits.depth}")
        above, _, name = path.rpartition(b"/")
        parent = self.of(above, made)
        real = parent.path_of(name)
        self._entered.add(path)
        if real == path:
            return self._enter(parent, name, made)
        self._aliases[path] = real
        return self.of(real, made)

    def _enter(
        self, parent: Directory, name: bytes, made: Callable[[int, bytes], None] | None
    ) -> Directory:
        path = parent.path_of(name)
        try:
            descriptor = os.open(name, FLAGS, dir_fd=parent.descriptor)
        except FileNotFoundError:
            if made is None:
                raise
            os.mkdir(name, 0o755, dir_fd=parent.descriptor)
            descriptor = os.open(name, FLAGS, dir_fd=parent.descriptor)
            with _closed_on_error(descriptor):
                made(descriptor, path)
        except NotADirectoryError:
            self._aliases[path] = self._followed(parent, name)
            return self.of(self._aliases[path])
        with _closed_on_error(descriptor):
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
                    real = self.of(real + b"/" + part if real else part).path
        except OSError as exc:
            raise UnusualLayerError(f"a parent of a member is no directory: {exc}") from exc
        self._links -= 1
        return real

    def close_at(self, path: bytes) -> None:
        """Closes one directory, whose attributes changed."""
        directory = self._open.pop(path, None)
        if directory is not None:
            os.close(directory.descriptor)

    def forget(self, path: bytes) -> None:
        """Closes what is open at and below a path whose file is replaced.

        Raises UnusualLayerError if a member was written through a link there.
        """
        if path not in self._entered:
            return
        below = path + b"/"
        for each in [p for p in self._open if p == path or p.startswith(below)]:
            os.close(self._open.pop(each).descriptor)
        if self._aliases and any(p == path or p.startswith(below) for p in self._aliases):
            raise UnusualLayerError("a link is replaced that members were written through")
