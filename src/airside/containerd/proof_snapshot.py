"""A snapshot for a proof: prepared in containerd under a lease of its own, and removed again."""

import contextlib
import io
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airside.containerd.client import Client
from airside.containerd.services.snapshots import Mount
from airside.containerd.sweep import ingest_key
from airside.core.errors import AirsideError, ContainerdError
from airside.oci.digest import digest_of
from airside.oci.model import OCI_LAYER, Descriptor

PROOF_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ProofSnapshot:
    """A prepared snapshot. `name` is random: nobody else has a file of this name."""

    client: Client
    identity: str
    name: str
    lease: str
    mounts: Sequence[Mount]

    def apply(self, tar: bytes) -> None:
        """Have containerd apply a layer to it. Raises ContainerdError."""
        digest = digest_of(tar)
        key = ingest_key(self.identity, digest)
        self.client.content.send(key, digest, len(tar), {}, self.lease, io.BytesIO(tar))
        layer = Descriptor(OCI_LAYER, digest, len(tar))
        try:
            self.client.diff.apply(layer, self.mounts, self.lease)
        finally:
            with contextlib.suppress(AirsideError):  # its name is random: nobody else uses it
                self.client.content.delete(digest)


def why_not_proved(
    client: Client, snapshotter: str, identity: str, tried: Callable[[ProofSnapshot], str]
) -> str:
    """Returns what `tried` returns for a fresh snapshot, or which error it met.

    Raises ContainerdError if containerd is away.
    """
    name = secrets.token_hex(8)
    lease = f"{identity}-proof-{name}"
    key = f"{identity}-{name} sha256:proof"  # a leftover is swept
    try:
        client.leases.create(lease, seconds=PROOF_SECONDS)
        mounts = client.snapshots.prepare(snapshotter, key, "", {}, lease)
        return tried(ProofSnapshot(client, identity, name, lease, mounts))
    except ContainerdError as exc:
        if exc.is_away:
            raise
        return f"containerd refused the proof: {exc.message}"
    except AirsideError as exc:
        return f"layers cannot be written here: {exc.message}"
    except OSError as exc:
        return f"{exc.filename or 'the snapshot'}: {exc.strerror}"
    finally:
        with contextlib.suppress(AirsideError):
            client.snapshots.remove(snapshotter, key)
        with contextlib.suppress(AirsideError):
            client.leases.delete(lease)
