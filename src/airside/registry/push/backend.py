"""The parts of a data directory to which pushes and pull-through write."""

from collections.abc import Callable
from dataclasses import dataclass

from airside.catalog.catalog import Catalog
from airside.core.listeners import Listeners
from airside.ports.measures import UNMEASURED, WriteMeter
from airside.registry.push.group_commit import GroupCommit
from airside.registry.push.uploads import Uploads
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
    uploads: Uploads
    make_room: Callable[[int], object]
    """Collects garbage if the disk is nearly full or so many bytes do not fit. Called before bytes
    are received. Raises StoreError.
    """
    index_outdated: Listeners
    """Notified after each change of names: `index.json` lags behind the catalog."""
    meter: WriteMeter = UNMEASURED
