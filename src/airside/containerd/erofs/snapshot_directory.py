"""The directory of a snapshot that the snapshotter `erofs` prepared, and what may lie in it."""

import os
from collections.abc import Sequence

from airside.containerd.services.snapshots import Mount
from airside.core.errors import UnusualLayerError

LAYER = "layer.erofs"
MARK = ".erofslayer"
"""With it the snapshotter marks its directories, for containerd's differ to know them."""
UPPER, WORK = "fs", "work"
_FRESH = frozenset({MARK, UPPER, WORK})


def directory_of(mounts: Sequence[Mount]) -> str:
    """Returns the directory of a prepared snapshot, as containerd's differ reads it from mounts.

    They are a bind mount of its `fs`, or an overlay with that as upper directory. Raises
    UnusualLayerError for others.
    """
    upper = ""
    if mounts and mounts[-1].type == "bind" and len(mounts) == 1:
        upper = mounts[0].source
    elif mounts and mounts[-1].type.rpartition("/")[2] == "overlay":
        prefix = "upperdir="
        options = mounts[-1].options
        upper = next((o.removeprefix(prefix) for o in options if o.startswith(prefix)), "")
    directory, _, name = upper.rpartition("/")
    if name != UPPER or not directory.startswith("/"):
        types = ", ".join(mount.type for mount in mounts)
        raise UnusualLayerError(f"a snapshot of erofs with other mounts than expected: {types}")
    return directory


def lower_layers(mounts: Sequence[Mount]) -> list[str]:
    """Returns the files of the layers below a prepared snapshot, the uppermost first."""
    found = [mount.source for mount in mounts[:-1] if mount.type.rpartition("/")[2] == "erofs"]
    if found:
        return found
    prefix = "lowerdir="
    options = mounts[-1].options if mounts else ()
    lower = next((o.removeprefix(prefix) for o in options if o.startswith(prefix)), "")
    return [f"{path.rpartition('/')[0]}/{LAYER}" for path in lower.split(":") if path]


def open_fresh(directory: str) -> int:
    """Opens the directory of a snapshot that nobody wrote to yet; the caller closes it.

    Raises UnusualLayerError if it is not there, or no such directory.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        number = os.open(directory, flags)
    except OSError as exc:
        raise UnusualLayerError(f"{directory} is not visible here: {exc.strerror}") from exc
    if not _is_fresh(number, directory):
        os.close(number)
        raise UnusualLayerError(f"{directory} is no fresh snapshot of erofs")
    return number


def _is_fresh(number: int, directory: str) -> bool:
    try:
        is_marked = {MARK, UPPER} <= names_in(number) <= _FRESH
        return is_marked and not names_in(f"{directory}/{UPPER}")
    except OSError:
        return False


def names_in(directory: int | str) -> set[str]:
    """Returns the names in a directory. Raises OSError."""
    with os.scandir(directory) as entries:
        return {entry.name for entry in entries}
