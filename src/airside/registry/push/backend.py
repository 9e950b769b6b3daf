"""The parts of a data directory to which pushes and pull-through write."""

from collections.abc import Callable
from dataclasses import dataclass

from airside.catalog.catalog import Catalog
from airside.core.listeners import Listeners
from airside.registry.push.group_commit import GroupCommit
from airside.store.local import LocalStore
from airside.store.lock import StoreLock


@dataclass(frozen=True, slots=True)
class Backend:
    """Parts of one data directory; thread-safe as they are."""

    store: LocalStore
    catalog: Catalog
    lock: StoreLock
    group_commit: GroupCommit
    clock: Callable[[], float]
    make_room: Callable[[], object]
    """Collects garbage if the disk is nearly full; called before bytes are received."""
    index_outdated: Listeners
    """Notified after each change of names: `index.json` lags behind the catalog."""
