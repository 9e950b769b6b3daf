"""The container service, read only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airside.containerd.channel import Channel
from airside.containerd.proto import containers_pb2

CONTAINERS = "containerd.services.containers.v1.Containers"


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container: the name of its image, the snapshot that it writes to, and its labels."""

    id: str
    image: str
    snapshotter: str
    snapshot_key: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Containers:
    """The containers of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def list(self) -> Sequence[ContainerRecord]:
        """Returns all containers of the namespace."""
        answer = self._channel.call(
            f"{CONTAINERS}/List",
            containers_pb2.ListContainersRequest(),
            containers_pb2.ListContainersResponse,
        )
        return [
            ContainerRecord(c.id, c.image, c.snapshotter, c.snapshot_key, dict(c.labels))
            for c in answer.containers
        ]
