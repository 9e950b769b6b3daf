"""Walks to a file one name at a time, and judges each link on the way. Blocking.

This is for paths whose links leave the directory, and for kernels without `openat2`. Each step is
by descriptor: what is renamed or exchanged meanwhile can't lead elsewhere. The owners of all the
links on the way must have the right to read what is found outside.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from airside.archive.beneath.judge import Judge, LinkOutsideError

PATH = os.O_PATH | os.O_CLOEXEC
_LINKS = 40
"""The most symbolic links that are followed for one path, as in Linux."""
_STEPS, _DEPTH = 512, 128
"""The most names of one path with its links, and directories that are open at once."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file or directory; closed by its context.

    `judge`: of what is in it, for one outside the watched directory; None inside.
    """

    descriptor: int
    judge: Judge | None = None

    @property
    def is_inside(self) -> bool:
        return self.judge is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def stat(self) -> os.stat_result:
        return os.fstat(self.descriptor)


@dataclass(slots=True)
class Walk:
    """One walk from the directory `root`, or from `/` without one.

    `links`: the setting. `shortened` returns what remains of an absolute path below the root, or
    None for another path.
    """

    root: int | None
    links: str
    shortened: Callable[[str], str | None]

    def open(self, path: str) -> Opened:
        """Open with O_PATH. Raises OSError, LinkOutsideError."""
        steps = _Steps(self)
        try:
            return steps.run(path)
        finally:
            steps.close()


class _Steps:
    """The state of a walk: the directories on the way, and the owners of the links.

    `_way`: the open directories from the root to here; outside, only the one that is here.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._judge = Judge(walk.links)
        self._count = self._follows = 0
        self._is_inside = walk.root is not None
        self._way = [_open_top() if walk.root is None else os.dup(walk.root)]

    def close(self) -> None:
        self._go([])

    def run(self, path: str) -> Opened:
        rest = _names(path)
        while rest:
            name = rest.pop(0)
            self._count += 1
            if self._count > _STEPS or len(self._way) > _DEPTH:
                raise _error(errno.ELOOP, path)
            if name == "..":
                self._up()
                continue
            if not self._is_inside:
                self._judge.check_search(self._way[-1])
            found = os.open(name, PATH | os.O_NOFOLLOW, dir_fd=self._way[-1])
            mode = os.fstat(found).st_mode
            if stat.S_ISDIR(mode):
                self._enter(found)
                continue
            with Opened(found):
                if stat.S_ISLNK(mode):
                    rest = self._follow(found) + rest
                elif rest:
                    raise _error(errno.ENOTDIR, path)
                else:
                    return self._end(found)
        return self._end(self._way[-1])

    def _end(self, found: int) -> Opened:
        if not self._is_inside:
            self._judge.check(found)
        return Opened(os.dup(found), None if self._is_inside else self._judge)

    def _enter(self, directory: int) -> None:
        if self._is_inside:
            self._way.append(directory)
            return
        self._go([directory])
        self._is_inside = self._is_root(directory)

    def _go(self, way: list[int]) -> None:
        before, self._way = self._way, way
        for descriptor in before:
            os.close(descriptor)

    def _is_root(self, directory: int) -> bool:
        root = self._walk.root
        return root is not None and os.path.sameopenfile(root, directory)

    def _up(self) -> None:
        if self._is_inside and len(self._way) > 1:  # not "..": it may have been moved out
            os.close(self._way.pop())
            return
        self._leave()
        self._judge.check_search(self._way[-1])
        self._enter(os.open("..", PATH | os.O_DIRECTORY, dir_fd=self._way[-1]))

    def _leave(self) -> None:
        if self._walk.root is not None and self._walk.links == "inside":
            raise LinkOutsideError
        self._is_inside = False

    def _follow(self, link: int) -> list[str]:
        """Returns the names to which a link leads, from the directory that is now the last."""
        self._follows += 1
        if self._follows > _LINKS:
            raise _error(errno.ELOOP, "")
        self._judge = self._judge.with_owner(os.fstat(link).st_uid)
        target = os.readlink("", dir_fd=link)
        if not target.startswith("/"):
            return _names(target)
        below = self._walk.shortened(target)
        if below is not None and self._walk.root is not None:
            self._go([os.dup(self._walk.root)])
            self._is_inside = True
            return _names(below)
        self._leave()
        self._enter(_open_top())
        return _names(target)


def _open_top() -> int:
    return os.open("/", PATH | os.O_DIRECTORY)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]
