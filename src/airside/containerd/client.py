"""A connection to one namespace of a containerd, by its services (`containerd.services`)."""

from typing import Self

from google.protobuf.empty_pb2 import Empty

from airside.containerd.channel import CALL_SECONDS, Channel
from airside.containerd.proto import version_pb2
from airside.containerd.services.containers import Containers
from airside.containerd.services.content import Content
from airside.containerd.services.diff import Diff
from airside.containerd.services.events import Events
from airside.containerd.services.images import Images
from airside.containerd.services.introspection import Introspection
from airside.containerd.services.leases import Leases
from airside.containerd.services.namespaces import Namespaces
from airside.containerd.services.snapshots import Snapshots

VERSION = "containerd.services.version.v1.Version"


class Client:
    """A connected client of one namespace. Thread-safe. Close it, or use it in `with`."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.namespace = channel.namespace
        self.containers = Containers(channel)
        self.content = Content(channel)
        self.diff = Diff(channel)
        self.events = Events(channel)
        self.images = Images(channel)
        self.introspection = Introspection(channel)
        self.leases = Leases(channel)
        self.namespaces = Namespaces(channel)
        self.snapshots = Snapshots(channel)

    @classmethod
    def open(
        cls, socket: str, namespace: str = "k8s.io", *, patience_seconds: float | None = None
    ) -> Self:
        """Returns a client. The first call makes the connection."""
        return cls(Channel(socket, namespace, patience_seconds=patience_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()

    def version(self, *, seconds: float = CALL_SECONDS) -> str:
        """Returns for instance `1.7.24`, without a leading v and the distributor's suffix."""
        answer = self.channel.call(
            f"{VERSION}/Version", Empty(), version_pb2.VersionResponse, seconds=seconds
        )
        return answer.version.removeprefix("v").partition("~")[0]
