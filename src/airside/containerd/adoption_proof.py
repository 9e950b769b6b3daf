"""Proves that containerd adopts blobs from the content directory that we see.

A small blob of our own is adopted, read back over gRPC, and deleted.
"""

import contextlib
import uuid
from pathlib import Path

from airside.containerd.client import Client
from airside.containerd.content_directory import ContentDirectory
from airside.containerd.intents import Intents
from airside.containerd.sweep import delete_by_gc, ingest_key
from airside.core.errors import AirsideError, ContainerdError
from airside.oci.digest import Digest, digest_of
from airside.store.filesystem import make_directories

PROOF_SECONDS = 60.0
_TRIES = 3
"""containerd's garbage collection deletes a file that it has not adopted yet."""
_NOT_ADOPTED = (
    "it does not adopt a blob in {}: containerd uses another directory, or "
    "content_sharing_policy is not shared"
)


class AdoptionProof:
    """One try with one containerd."""

    def __init__(
        self, client: Client, directory: ContentDirectory | None, intents: Intents, identity: str
    ) -> None:
        self._client, self._directory = client, directory
        self._intents, self._identity = intents, identity

    def run(self) -> str:
        """Returns why blobs must be sent, "" if containerd adopts them. Raises ContainerdError."""
        if self._directory is None:
            return "containerd does not report its content directory"
        root = self._directory.root
        if not root.parent.is_dir():  # a fresh containerd makes its directory with the first blob
            return f"its content directory {root} is not visible here"
        try:
            for _ in range(_TRIES):
                refusal = self._try_in(self._directory, f"airside {uuid.uuid4()}\n".encode())
                if refusal is not None:
                    return refusal
        except OSError as exc:
            return f"{root} cannot be written: {exc.strerror}"
        return _NOT_ADOPTED.format(root)

    def _try_in(self, directory: ContentDirectory, raw: bytes) -> str | None:
        """Returns "" or why not; None if a garbage collection deleted the blob meanwhile."""
        digest, root = digest_of(raw), directory.root
        key = ingest_key(self._identity, digest)
        lease = f"{self._identity}-proof-{uuid.uuid4().hex[:8]}"
        file, target = directory.write_private(raw), directory.path(digest)
        try:
            make_directories(target.parent)
            self._client.leases.create(lease, seconds=PROOF_SECONDS)
            self._intents.record({str(target): str(digest)})
            file.rename(target)
            self._client.content.adopt(key, digest, len(raw), {}, lease)
            if b"".join(self._client.content.read(digest)) != raw:
                return f"{root} is not the directory that containerd uses"
        except ContainerdError as exc:
            if exc.context.get("status") != "OUT_OF_RANGE":
                raise
            self._client.content.abort(key)
            return _NOT_ADOPTED.format(root) if target.exists() else None
        finally:
            self._forget(file, target, lease, digest)
            directory.drop_private()
        return ""

    def _forget(self, file: Path, target: Path, lease: str, digest: Digest) -> None:
        """Deletes the trial blob. An error leaves the intent to the next connection's sweep."""
        with contextlib.suppress(OSError):
            file.unlink()
        with contextlib.suppress(AirsideError, OSError):
            delete_by_gc(self._client, target, digest, ingest_key(self._identity, digest))
            self._client.content.delete(digest)  # its bytes are random: nobody else uses it
            self._intents.clear([str(target)])
        with contextlib.suppress(AirsideError):
            self._client.leases.delete(lease)
