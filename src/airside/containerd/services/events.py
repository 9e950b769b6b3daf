"""The event service: reports changes of images."""

from collections.abc import Iterator
from dataclasses import dataclass

from airside.containerd.channel import Channel
from airside.containerd.proto import events_pb2, image_events_pb2, types_pb2

EVENTS = "containerd.services.events.v1.Events"


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """An image of the namespace was created, updated or deleted (`kind`)."""

    kind: str
    name: str


class Events:
    """The events of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def subscribe_images(self) -> Iterator[ImageEvent]:
        """Yields the changes of images from now on, until the channel is closed or disconnected."""
        topics = ("create", "update", "delete")
        namespace = self._channel.namespace
        filters = [f'topic=="/images/{kind}",namespace=={namespace}' for kind in topics]
        request = events_pb2.SubscribeRequest(filters=filters)
        for envelope in self._channel.read(
            f"{EVENTS}/Subscribe", request, types_pb2.Envelope, seconds=None
        ):
            name = image_events_pb2.ImageDelete.FromString(envelope.event.value).name
            yield ImageEvent(envelope.topic.rpartition("/")[2], name)
