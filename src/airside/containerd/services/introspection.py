"""The introspection service: which containerd it is, and its plugins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from airside.containerd.channel import Channel
from airside.containerd.proto import introspection_pb2

INTROSPECTION = "containerd.services.introspection.v1.Introspection"


@dataclass(frozen=True, slots=True)
class Plugin:
    """What containerd says of one of its plugins; `error` is why it was not loaded."""

    type: str
    id: str
    exports: Mapping[str, str]
    capabilities: tuple[str, ...]
    error: str


class Introspection:
    """What a containerd says of itself. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def server_id(self) -> str:
        """The identity of its root directory: a wiped containerd has another."""
        answer = self._channel.call(
            f"{INTROSPECTION}/Server", Empty(), introspection_pb2.ServerResponse
        )
        return answer.uuid

    def plugins(self, *filters: str) -> Sequence[Plugin]:
        """All plugins, or those that pass one of the filters."""
        answer = self._channel.call(
            f"{INTROSPECTION}/Plugins",
            introspection_pb2.PluginsRequest(filters=filters),
            introspection_pb2.PluginsResponse,
        )
        return [
            Plugin(p.type, p.id, dict(p.exports), tuple(p.capabilities), p.init_err.message)
            for p in answer.plugins
        ]
