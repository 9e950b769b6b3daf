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

from airside.archive.beneath.rights import READ, SEARCH, User
from airside.archive.beneath.system_calls import is_on_disk

PATH = os.O_PATH | os.O_CLOEXEC
_LINKS = 40
"""The most symbolic links that are followed for one path, as in Linux."""
_STEPS, _DEPTH = 2_048, 128
"""The most names of one path with its links, and directories that are open at once."""


class LinkOutsideError(Exception):
    """A link leads to what the setting `links` does not allow."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file or directory; closed by its context. `is_inside` the watched directory."""

    descriptor: int
    is_inside: bool

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
        self._owners: set[int] = set()
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
            self._check_search()
            found = os.open(name, PATH | os.O_NOFOLLOW, dir_fd=self._way[-1])
            mode = os.fstat(found).st_mode
            if stat.S_ISDIR(mode):
                self._enter(found)
                continue
            with Opened(found, self._is_inside):
                if stat.S_ISLNK(mode):
                    rest = self._follow(found) + rest
                elif rest:
                    raise _error(errno.ENOTDIR, path)
                else:
                    return self._end(found)
        return self._end(self._way[-1])

    def _end(self, found: int) -> Opened:
        if not self._is_inside:
            self._check_right(found)
        return Opened(os.dup(found), self._is_inside)

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
        self._check_search()
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
        self._owners.add(os.fstat(link).st_uid)
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

    def _reader(self) -> User | None:
        """The user who must have the rights: the links' owner; None if that is root or ourselves.

        Raises LinkOutsideError if the links belong to several users.
        """
        if self._walk.links == "any":
            return None
        users = self._owners - {0, os.geteuid()}
        if len(users) > 1:
            raise LinkOutsideError
        return User(users.pop()) if users else None

    def _check_search(self) -> None:
        if self._is_inside:
            return
        reader = self._reader()
        if reader is not None and not reader.may(self._way[-1], SEARCH):
            raise LinkOutsideError

    def _check_right(self, found: int) -> None:
        """Check what lies outside. Raises LinkOutsideError."""
        if not is_on_disk(found):
            raise LinkOutsideError
        if self._walk.links == "any" or not self._owners:
            return
        reader, status = self._reader(), os.fstat(found)
        if stat.S_ISDIR(status.st_mode):  # each file in it is judged by itself
            if reader is not None and not reader.may(found, READ | SEARCH):
                raise LinkOutsideError
            return
        owners = self._owners if reader is None else {reader.uid}
        if status.st_uid not in owners | {0}:
            raise LinkOutsideError
        if reader is not None and not reader.may(found, READ):
            raise LinkOutsideError


def _open_top() -> int:
    return os.open("/", PATH | os.O_DIRECTORY)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]
