"""The introspection service: identifies a containerd, and lists its plugins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from airside.containerd.channel import Channel
from airside.containerd.proto import introspection_pb2

INTROSPECTION = "containerd.services.introspection.v1.Introspection"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin of containerd; `error` is why it was not loaded."""

    type: str
    id: str
    exports: Mapping[str, str]
    capabilities: tuple[str, ...]
    error: str


class Introspection:
    """The facts that a containerd reports about itself. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def server_id(self) -> str:
        """Returns the identity of the root directory; it changes if containerd is wiped."""
        answer = self._channel.call(
            f"{INTROSPECTION}/Server", Empty(), introspection_pb2.ServerResponse
        )
        return answer.uuid

    def plugins(self, *filters: str) -> Sequence[Plugin]:
        """Returns all plugins, or those that pass one of the filters."""
        answer = self._channel.call(
            f"{INTROSPECTION}/Plugins",
            introspection_pb2.PluginsRequest(filters=filters),
            introspection_pb2.PluginsResponse,
        )
        return [
            Plugin(p.type, p.id, dict(p.exports), tuple(p.capabilities), p.init_err.message)
            for p in answer.plugins
        ]
