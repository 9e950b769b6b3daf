"""The identity of a catalog: what it published in a runtime is recognised by it.

The identity stands for one history of records. A catalog that was rebuilt, restored from a copy, or
copied to another place gets a new one: it does not know what was published since, and must not
withdraw that (ADR 0031).
"""

import uuid

from airside.catalog.catalog import Catalog

_IDENTITY, _INODE = "identity", "identity_inode"


def identity_of(catalog: Catalog) -> str:
    """Returns the identity, and makes one if there is none."""
    found = catalog.meta(_IDENTITY)
    if not found:
        found = f"airside-{uuid.uuid4().hex[:8]}"
        catalog.set_meta({_IDENTITY: found})
    return found


def settle_identity(catalog: Catalog, inode: int) -> None:
    """Gives the catalog a new identity if its file is another than at the last start.

    `inode`: the file's number. Devices are not compared: their numbers change from boot to boot.
    """
    before, now = catalog.meta(_INODE), str(inode)
    if before == now:
        return
    if before is not None:
        renew_identity(catalog)
    catalog.set_meta({_INODE: now})


def renew_identity(catalog: Catalog) -> None:
    """Gives the catalog a new identity: it may have lost records of what it published."""
    catalog.set_meta({_IDENTITY: ""})
    identity_of(catalog)
