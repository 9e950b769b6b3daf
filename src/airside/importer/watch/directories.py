"""Decides the watched directory of a path, and which names may be archives. Pure.

Watched directories may be nested: a path belongs to the innermost one that contains it, and to none
if that one is not recursive and the path lies deeper. So the settings of an inner directory hold
for everything in it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from airside.archive.beneath import ANYWHERE, Beneath
from airside.archive.directory import LAYOUT_MARKS
from airside.core.paths import is_within
from airside.core.settings import WatchedDirectory

_BEING_WRITTEN = (
    *("~", ".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp", ".swp"),
    *(".opdownload", ".!ut", ".!qb", ".!bt", ".bc!"),
)
_NO_DIRECTORY = frozenset({"lost+found"})


def is_candidate(name: str) -> bool:
    """Returns False for hidden names, those that tools use while writing, and parts of a layout.

    Every other file may be an archive, or a companion of one, which is read and then ignored.
    """
    written = name.lower().endswith(_BEING_WRITTEN) or name in LAYOUT_MARKS
    return not name.startswith(".") and not written


def is_candidate_directory(name: str) -> bool:
    """Returns False for directories that are not scanned: hidden, being written, `lost+found`."""
    hidden = name.startswith(".") or name in _NO_DIRECTORY
    return not hidden and not name.lower().endswith(_BEING_WRITTEN)


def beneath(directory: WatchedDirectory) -> Beneath:
    """Returns where the paths in a watched directory may lead."""
    return Beneath(directory.path, directory.links)


class WatchedDirectories:
    """The watched directories, and the owner of each path."""

    def __init__(self, directories: Iterable[WatchedDirectory]) -> None:
        self._by_path = {directory.path: directory for directory in directories}

    def __iter__(self) -> Iterator[WatchedDirectory]:
        return iter(self._by_path.values())

    def owner(self, path: Path) -> WatchedDirectory | None:
        """Returns the watched directory whose settings hold for the path; None: unwatched.

        A path with `..` is unwatched: where it leads depends on links.
        """
        if ".." in path.parts:
            return None
        for parent in path.parents:
            found = self._by_path.get(parent)
            if found is not None:
                return found if found.recursive or parent == path.parent else None
        return None

    def beneath(self, path: Path) -> Beneath:
        """Returns where the path may lead: outside watched directories, anywhere."""
        directory = self.owner(path)
        return ANYWHERE if directory is None else beneath(directory)

    def inside(self, directory: Path) -> frozenset[Path]:
        """Returns the other watched directories that lie in this one."""
        return frozenset(
            path for path in self._by_path if path != directory and is_within(path, directory)
        )
