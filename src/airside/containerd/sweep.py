"""Deletes what an interrupted publish left in containerd.

Our leases and ingest keys begin with the identity of this agent.
"""

import contextlib
from pathlib import Path

from airside.containerd.client import Client
from airside.containerd.content_directory import ContentDirectory
from airside.containerd.intents import Intents
from airside.core.errors import ConflictError, ContainerdError
from airside.oci.digest import Digest


def ingest_key(identity: str, digest: Digest) -> str:
    """Returns the key under which we write a blob."""
    return f"{identity}-{digest}"


class Sweeper:
    """Sweeps one namespace at the start of a connection."""

    def __init__(
        self, client: Client, directory: ContentDirectory | None, intents: Intents, identity: str
    ) -> None:
        self._client, self._directory = client, directory
        self._intents, self._identity = intents, identity

    def sweep(self) -> None:
        """Deletes our leases, ingests, private files, and links that no namespace adopted."""
        for lease in self._client.leases.list():
            if lease.startswith(f"{self._identity}-"):
                # GC runs at once: snapshots that only the lease holds may be half written after a
                # power cut, and must not count as unpacked
                self._client.leases.delete(lease, sync=True)
        for key in self._client.content.ingests():
            if key.startswith(f"{self._identity}-"):
                self._client.content.abort(key)
        if self._directory is not None:
            self._directory.sweep_private()
        self._sweep_links()

    def _sweep_links(self) -> None:
        """Deletes the files of recorded intents that no namespace knows."""
        left = self._intents.left()
        namespaces = self._client.namespaces.list() if left else []
        for text, name in left:
            digest = Digest(*name.split(":", 1))
            known = any(
                self._client.content.info(digest, namespace=n) is not None for n in namespaces
            )
            if not known:
                with contextlib.suppress(OSError):
                    delete_by_gc(
                        self._client, Path(text), digest, ingest_key(self._identity, digest)
                    )
        self._intents.clear([text for text, _ in left])


def delete_by_gc(client: Client, target: Path, digest: Digest, key: str) -> None:
    """Lets containerd's next garbage collection delete a file of its content directory.

    The file is adopted without a lease, so that nothing refers to it. Unlinking the file instead
    makes a collection that runs at that moment leave its garbage behind, without an error (tried on
    1.6, 1.7 and 2.1). So the file is unlinked only if containerd does not adopt it: the directory
    is another one, or containerd shares nothing.
    """
    try:
        client.content.adopt(key, digest, target.stat().st_size, {}, "")
    except (FileNotFoundError, ConflictError):
        return
    except ContainerdError as exc:
        if exc.context.get("status") != "OUT_OF_RANGE":
            raise
        client.content.abort(key)
        target.unlink(missing_ok=True)
