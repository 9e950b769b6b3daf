"""Applies inotify events to the settler and to the watched directories."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from asyncinotify import Event, Mask

from airside.archive.directory import LAYOUT_MARKS
from airside.importer.watch.directories import is_candidate, is_candidate_directory
from airside.importer.watch.directory_state import DirectoryState
from airside.importer.watch.inotify import EVENTS
from airside.importer.watch.settle import Settler

_SAW: Mapping[int, Callable[[Settler, Path, float], None]] = {
    Mask.CLOSE_WRITE: Settler.saw_close,
    Mask.MOVED_TO: Settler.saw_move,
    Mask.CREATE: Settler.saw_create,
}
_SAW_TARGET: Mapping[int, Callable[[Settler, Path, float], None]] = {
    Mask.CLOSE_WRITE: Settler.saw_close,
    Mask.MOVED_TO: Settler.saw_move,
}
_SAW_DIRECTORY: Mapping[int, Callable[[Settler, Path, float], None]] = {
    Mask.MOVED_TO: Settler.saw_move,
}


def apply_event(
    settler: Settler,
    directories: Mapping[Path, DirectoryState],
    owner: Path,
    where: Path,
    event: Event,
) -> None:
    """Apply an event in the directory `where`, which belongs to the watched directory `owner`.

    Directories whose content may have changed are due for a scan at once.
    """
    directory = directories[owner]
    if event.name is None:  # the directory itself
        directory.scan_at = 0.0
        return
    name, mask, now = str(event.name), event.mask, time.monotonic()
    for link in directory.links.get((where, name), ()):
        _SAW_TARGET.get(mask & EVENTS, Settler.saw_target)(settler, link, now)
    if where not in directory.found.directories and where != directory.path:
        return  # the directory of a link's target
    tree = directory.found.directories.get(where)
    if tree is not None:
        settler.saw_inside(tree, now)
    if Mask.ISDIR in mask:
        if where / name in directory.others:
            directories[where / name].scan_at = 0.0
        elif tree is not None or is_candidate_directory(name):
            directory.scan_at = 0.0
            _SAW_DIRECTORY.get(mask & EVENTS, Settler.saw_change)(settler, where / name, now)
    elif tree is None and name in LAYOUT_MARKS:
        directory.scan_at = 0.0  # what it is in may be an archive now
    elif tree is None and is_candidate(name):
        _SAW.get(mask & EVENTS, Settler.saw_change)(settler, where / name, now)
        directory.saw_part(name)
