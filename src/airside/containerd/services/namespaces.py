"""The namespace service: lists namespaces, and creates ours."""

from collections.abc import Sequence

from airside.containerd.channel import Channel
from airside.containerd.proto import namespaces_pb2
from airside.core.errors import ConflictError

NAMESPACES = "containerd.services.namespaces.v1.Namespaces"


class Namespaces:
    """The namespaces of a containerd. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def list(self) -> Sequence[str]:
        """Returns the names of all namespaces."""
        answer = self._channel.call(
            f"{NAMESPACES}/List",
            namespaces_pb2.ListNamespacesRequest(),
            namespaces_pb2.ListNamespacesResponse,
        )
        return [n.name for n in answer.namespaces]

    def create(self) -> None:
        """Creates the namespace of the channel unless it exists."""
        request = namespaces_pb2.CreateNamespaceRequest(
            namespace=namespaces_pb2.Namespace(name=self._channel.namespace)
        )
        try:
            self._channel.call(
                f"{NAMESPACES}/Create", request, namespaces_pb2.CreateNamespaceResponse
            )
        except ConflictError:
            return
