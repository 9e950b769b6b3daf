"""The lease service: what containerd's garbage collection leaves alone for a while."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.empty_pb2 import Empty

from airside.containerd.channel import Channel
from airside.containerd.proto import leases_pb2
from airside.core.errors import NotFoundError
from airside.oci.digest import Digest

LEASES = "containerd.services.leases.v1.Leases"
EXPIRES = "containerd.io/gc.expire"


class Leases:
    """The leases of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def create(self, lease: str, *, seconds: float) -> None:
        """A lease that ends by itself after `seconds`, if it is not deleted before."""
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        labels = {EXPIRES: end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        request = leases_pb2.CreateRequest(id=lease, labels=labels)
        self._channel.call(f"{LEASES}/Create", request, leases_pb2.CreateResponse)

    def delete(self, lease: str, *, sync: bool = False) -> None:
        """Nothing happens if it is gone."""
        request = leases_pb2.DeleteRequest(id=lease, sync=sync)
        try:
            self._channel.call(f"{LEASES}/Delete", request, Empty)
        except NotFoundError:
            return

    def list(self) -> Sequence[str]:
        """The IDs of all leases."""
        answer = self._channel.call(
            f"{LEASES}/List", leases_pb2.ListRequest(), leases_pb2.ListResponse
        )
        return [lease.id for lease in answer.leases]

    def add_blob(self, lease: str, digest: Digest) -> None:
        """Hold a blob of the namespace. Raises NotFoundError if lease or blob is gone."""
        self._add(lease, leases_pb2.Resource(id=str(digest), type="content"))

    def add_snapshot(self, lease: str, snapshotter: str, key: str) -> None:
        """Hold a snapshot and its parents, if it is there. Raises NotFoundError without a lease."""
        self._add(lease, leases_pb2.Resource(id=key, type=f"snapshots/{snapshotter}"))

    def _add(self, lease: str, resource: leases_pb2.Resource) -> None:
        request = leases_pb2.AddResourceRequest(id=lease, resource=resource)
        self._channel.call(f"{LEASES}/AddResource", request, Empty)
