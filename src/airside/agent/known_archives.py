"""The archives and mounts that the catalog knows at the start, for the watcher and queue. Blocking.

What always holds: an archive on a file system that is not mounted is not taken for removed.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airside.agent.misnamed_files import path_shown
from airside.agent.node import Node
from airside.archive.stat_key import StatKey
from airside.catalog.catalog import Catalog
from airside.importer.watch.directories import WatchedDirectories
from airside.importer.watch.mount_table import Remembered, from_text, to_text

log = logging.getLogger("airside.agent")

_MOUNTS = "mounts"
_NOT_JUDGED = StatKey(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class KnownArchives:
    """The catalog's archives in watched directories, with their stat keys.

    `doubtful`: those of a directory that is empty or absent, perhaps because its file system is
    not mounted. `mounts`: the mounts on which archives were found.
    """

    keys: dict[Path, StatKey]
    doubtful: frozenset[Path]
    mounts: Remembered


def load_known_archives(node: Node, directories: WatchedDirectories) -> KnownArchives:
    """Read the catalog. Archives that are no longer watched are set to `waiting`."""
    keys: dict[Path, StatKey] = {}
    for text, key in node.catalog.known().items():
        path = path_shown(text)
        if directories.owner(path) is not None:
            keys[path] = StatKey.parse(key) if key else _NOT_JUDGED
        else:
            _record_unwatched(node, text)
    mounts = from_text(node.catalog.meta(_MOUNTS) or "{}")
    return KnownArchives(keys, _doubtful(keys, directories), mounts)


def record_mounts(catalog: Catalog, mounts: Remembered) -> None:
    """Record on which mounts archives are, for the next start. Raises StoreError."""
    catalog.set_meta({_MOUNTS: to_text(mounts)})


def _record_unwatched(node: Node, path: str) -> None:
    for row in node.catalog.sources(path=path):
        reason = "its directory is not watched any more; its images stay"
        node.catalog.source_states.set_state(row.id, "waiting", node.clock(), reason=reason)


def _doubtful(known: Iterable[Path], places: WatchedDirectories) -> frozenset[Path]:
    """Returns the archives whose directories are empty or absent: perhaps they are not mounted."""
    empty: dict[Path, bool] = {}
    doubtful = set()
    for path in known:
        owner = places.owner(path)
        if owner is None:
            continue
        beneath, here = places.beneath(path), path.parent
        while here != owner.path and not beneath.is_directory(here):
            here = here.parent
        if here not in empty:
            empty[here] = beneath.is_empty(here)
        if empty[here] or here != path.parent:
            doubtful.add(path)
    for directory in sorted(d for d, is_empty in empty.items() if is_empty):
        log.warning(
            "%s is empty, but the catalog has archives in it: is its file system mounted? "
            "Their images stay for now",
            directory,
        )
    return frozenset(doubtful)
