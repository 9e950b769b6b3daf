"""The snapshot service: unpacked layers, by snapshotter."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from airside.containerd.channel import Channel
from airside.containerd.proto import snapshots_pb2
from airside.core.errors import NotFoundError

SNAPSHOTS = "containerd.services.snapshots.v1.Snapshots"


@dataclass(frozen=True, slots=True)
class Mount:
    """How a snapshot is mounted, as mount(8) takes it."""

    type: str
    source: str
    target: str
    options: tuple[str, ...]


class Snapshots:
    """The snapshots of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def has(self, snapshotter: str, key: str) -> bool:
        """Returns True if a committed snapshot of this name (a chain ID) exists."""
        request = snapshots_pb2.StatSnapshotRequest(snapshotter=snapshotter, key=key)
        try:
            answer = self._channel.call(
                f"{SNAPSHOTS}/Stat", request, snapshots_pb2.StatSnapshotResponse
            )
        except NotFoundError:
            return False
        return answer.info.kind == snapshots_pb2.COMMITTED

    def list_committed(self, snapshotter: str) -> Iterator[str]:
        """Yields the names of the committed snapshots."""
        return (i.name for i in self._list(snapshotter) if i.kind == snapshots_pb2.COMMITTED)

    def list_active(self, snapshotter: str) -> Sequence[str]:
        """Returns the keys of the snapshots that are being written."""
        return [i.name for i in self._list(snapshotter) if i.kind == snapshots_pb2.ACTIVE]

    def _list(self, snapshotter: str) -> Iterator[snapshots_pb2.Info]:
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=snapshotter)
        for answer in self._channel.read(
            f"{SNAPSHOTS}/List", request, snapshots_pb2.ListSnapshotsResponse
        ):
            yield from answer.info

    def prepare(
        self, snapshotter: str, key: str, parent: str, labels: Mapping[str, str], lease: str
    ) -> Sequence[Mount]:
        """Prepares a writable snapshot on its parent. Raises ConflictError, NotFoundError."""
        request = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter=snapshotter, key=key, parent=parent, labels=labels
        )
        answer = self._channel.call(
            f"{SNAPSHOTS}/Prepare", request, snapshots_pb2.PrepareSnapshotResponse, lease=lease
        )
        return [Mount(m.type, m.source, m.target, tuple(m.options)) for m in answer.mounts]

    def view(self, snapshotter: str, key: str, parent: str, lease: str) -> Sequence[Mount]:
        """Shows a committed snapshot read-only. Raises ConflictError, NotFoundError."""
        request = snapshots_pb2.ViewSnapshotRequest(snapshotter=snapshotter, key=key, parent=parent)
        answer = self._channel.call(
            f"{SNAPSHOTS}/View", request, snapshots_pb2.ViewSnapshotResponse, lease=lease
        )
        return [Mount(m.type, m.source, m.target, tuple(m.options)) for m in answer.mounts]

    def commit(
        self, snapshotter: str, name: str, key: str, labels: Mapping[str, str], lease: str
    ) -> None:
        """Commits the snapshot `key` as `name`. Raises ConflictError if `name` exists."""
        request = snapshots_pb2.CommitSnapshotRequest(
            snapshotter=snapshotter, name=name, key=key, labels=labels
        )
        self._channel.call(f"{SNAPSHOTS}/Commit", request, Empty, lease=lease)

    def remove(self, snapshotter: str, key: str) -> None:
        """Removes a snapshot; does nothing if it is absent."""
        request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
        try:
            self._channel.call(f"{SNAPSHOTS}/Remove", request, Empty)
        except NotFoundError:
            return
