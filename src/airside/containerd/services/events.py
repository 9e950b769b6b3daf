"""The event service: reports changes of images, and containers that begin, end and go."""

from collections.abc import Iterator
from dataclasses import dataclass

from airside.containerd.channel import Channel
from airside.containerd.proto import events_pb2, image_events_pb2, types_pb2

EVENTS = "containerd.services.events.v1.Events"
_DELETED = "/containers/delete"
_TOPICS = (
    "/images/create",
    "/images/update",
    "/images/delete",
    "/containers/create",
    _DELETED,
    "/tasks/delete",
    "/snapshot/commit",
)


@dataclass(frozen=True, slots=True)
class Event:
    """An image or a container was changed, or a layer unpacked, as `topic` says.

    `name` is that of the image, the ID of the container, or the key of the snapshot.
    """

    topic: str
    name: str

    @property
    def is_container(self) -> bool:
        """True also if a container's own process ended (`/tasks/delete`: not of an exec)."""
        return self.topic.startswith(("/containers/", "/tasks/"))

    @property
    def has_ended(self) -> bool:
        """True if a container was deleted."""
        return self.topic == _DELETED


class Events:
    """The events of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def subscribe(self) -> Iterator[Event]:
        """Yields what happens from now on, until the channel is closed or disconnected."""
        namespace = self._channel.namespace
        filters = [f'topic=="{topic}",namespace=={namespace}' for topic in _TOPICS]
        request = events_pb2.SubscribeRequest(filters=filters)
        for envelope in self._channel.read(
            f"{EVENTS}/Subscribe", request, types_pb2.Envelope, seconds=None
        ):
            # field 1 of all of these messages is a text: the name, or the container's ID
            name = image_events_pb2.ImageDelete.FromString(envelope.event.value).name
            yield Event(envelope.topic, name)
