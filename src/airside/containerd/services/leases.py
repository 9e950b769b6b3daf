"""The lease service: protects resources from containerd's garbage collection."""

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
        """Creates a lease that expires after `seconds` unless it is deleted before."""
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        labels = {EXPIRES: end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        request = leases_pb2.CreateRequest(id=lease, labels=labels)
        self._channel.call(f"{LEASES}/Create", request, leases_pb2.CreateResponse)

    def delete(self, lease: str, *, sync: bool = False) -> None:
        """Deletes a lease; `sync` collects garbage first. Does nothing if it is absent."""
        request = leases_pb2.DeleteRequest(id=lease, sync=sync)
        try:
            self._channel.call(f"{LEASES}/Delete", request, Empty)
        except NotFoundError:
            return

    def list(self) -> Sequence[str]:
        """Returns the IDs of all leases."""
        answer = self._channel.call(
            f"{LEASES}/List", leases_pb2.ListRequest(), leases_pb2.ListResponse
        )
        return [lease.id for lease in answer.leases]

    def add_blob(self, lease: str, digest: Digest) -> None:
        """Adds a blob to a lease. Raises NotFoundError if lease or blob is absent."""
        self._add(lease, leases_pb2.Resource(id=str(digest), type="content"))

    def add_snapshot(self, lease: str, snapshotter: str, key: str) -> None:
        """Adds a snapshot and its parents to a lease. Raises NotFoundError if the lease is absent.

        An absent snapshot raises nothing.
        """
        self._add(lease, leases_pb2.Resource(id=key, type=f"snapshots/{snapshotter}"))

    def _add(self, lease: str, resource: leases_pb2.Resource) -> None:
        request = leases_pb2.AddResourceRequest(id=lease, resource=resource)
        self._channel.call(f"{LEASES}/AddResource", request, Empty)
