"""What an interrupted publish leaves in containerd, and how it goes away.

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
    """The key under which we write a blob."""
    return f"{identity}-{digest}"


class Sweeper:
    """Removes what an interrupted publish left in one namespace."""

    def __init__(
        self, client: Client, directory: ContentDirectory | None, intents: Intents, identity: str
    ) -> None:
        self._client, self._directory = client, directory
        self._intents, self._identity = intents, identity

    def sweep(self) -> None:
        """Remove leases, ingests, private files and links."""
        for lease in self._client.leases.list():
            if lease.startswith(f"{self._identity}-"):
                # collected at once: snapshots that only it holds may be half written, after a
                # power cut, and must not be taken for unpacked
                self._client.leases.delete(lease, sync=True)
        for key in self._client.content.ingests():
            if key.startswith(f"{self._identity}-"):
                self._client.content.abort(key)
        if self._directory is not None:
            self._directory.sweep_private()
        self._sweep_links()

    def _sweep_links(self) -> None:
        """Have intended files removed that no namespace knows."""
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
    """Have containerd delete a file of its content directory, at its next collection.

    A blob that nothing refers to goes then. To unlink a file there makes a collection that runs
    at that moment leave its garbage behind, without a word (tried on 1.6, 1.7 and 2.1). So it
    is done only where containerd does not take the file: it is not in its directory, or it
    shares nothing.
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
