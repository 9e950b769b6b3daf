"""The lease service: protects resources from containerd's garbage collection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.empty_pb2 import Empty

from airside.containerd.channel import CALL_SECONDS, Channel
from airside.containerd.proto import leases_pb2
from airside.core.errors import NotFoundError
from airside.oci.digest import Digest

LEASES = "containerd.services.leases.v1.Leases"
EXPIRES = "containerd.io/gc.expire"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease and its labels."""

    id: str
    labels: Mapping[str, str]


class Leases:
    """The leases of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def create(
        self, lease: str, *, seconds: float, labels: Mapping[str, str] | None = None
    ) -> None:
        """Creates a lease that expires after `seconds` unless it is deleted before."""
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        own = {EXPIRES: end.strftime("%Y-%m-%dT%H:%M:%SZ"), **(labels or {})}
        request = leases_pb2.CreateRequest(id=lease, labels=own)
        self._channel.call(f"{LEASES}/Create", request, leases_pb2.CreateResponse)

    def delete(self, lease: str, *, sync: bool = False, seconds: float = CALL_SECONDS) -> None:
        """Deletes a lease; `sync` collects garbage first. Does nothing if it is absent."""
        request = leases_pb2.DeleteRequest(id=lease, sync=sync)
        try:
            self._channel.call(f"{LEASES}/Delete", request, Empty, seconds=seconds)
        except NotFoundError:
            return

    def list(self) -> Sequence[str]:
        """Returns the IDs of all leases."""
        return [lease.id for lease in self.records()]

    def records(self) -> Sequence[LeaseRecord]:
        """Returns all leases, those that have expired and were not collected too."""
        answer = self._channel.call(
            f"{LEASES}/List", leases_pb2.ListRequest(), leases_pb2.ListResponse
        )
        return [LeaseRecord(lease.id, dict(lease.labels)) for lease in answer.leases]

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
