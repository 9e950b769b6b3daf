"""The image service: names, and the descriptors that they point to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from airside.containerd.channel import CALL_SECONDS, Channel
from airside.containerd.proto import images_pb2
from airside.containerd.services.descriptors import descriptor_of, message_of
from airside.core.errors import NotFoundError
from airside.oci.model import Descriptor

IMAGES = "containerd.services.images.v1.Images"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of containerd: a name, its target, and its labels."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)


class Images:
    """The images of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def list(self, *filters: str, seconds: float = CALL_SECONDS) -> Sequence[ImageRecord]:
        """Returns all images, or those that pass one of the filters."""
        answer = self._channel.call(
            f"{IMAGES}/List",
            images_pb2.ListImagesRequest(filters=filters),
            images_pb2.ListImagesResponse,
            seconds=seconds,
        )
        return [_record_of(image) for image in answer.images]

    def get(self, name: str, *, seconds: float = CALL_SECONDS) -> ImageRecord | None:
        """Returns the image of this name, None if absent."""
        request = images_pb2.GetImageRequest(name=name)
        try:
            answer = self._channel.call(
                f"{IMAGES}/Get", request, images_pb2.GetImageResponse, seconds=seconds
            )
        except NotFoundError:
            return None
        return _record_of(answer.image)

    def create(self, record: ImageRecord, *, lease: str = "") -> None:
        """Creates a name. Raises ConflictError if taken, NotFoundError without the target."""
        request = images_pb2.CreateImageRequest(image=_image_of(record))
        self._channel.call(f"{IMAGES}/Create", request, images_pb2.CreateImageResponse, lease=lease)

    def update(self, record: ImageRecord, *paths: str, lease: str = "") -> None:
        """Updates only `paths`: `target`, `labels.<key>` (a label absent in the record is removed).

        Raises NotFoundError.
        """
        request = images_pb2.UpdateImageRequest(
            image=_image_of(record), update_mask=FieldMask(paths=paths)
        )
        self._channel.call(f"{IMAGES}/Update", request, images_pb2.UpdateImageResponse, lease=lease)

    def delete(self, name: str, *, sync: bool = False) -> bool:
        """Deletes a name; `sync` collects garbage first. Returns False if it was absent."""
        request = images_pb2.DeleteImageRequest(name=name, sync=sync)
        try:
            self._channel.call(f"{IMAGES}/Delete", request, Empty)
        except NotFoundError:
            return False
        return True


def _record_of(image: images_pb2.Image) -> ImageRecord:
    return ImageRecord(image.name, descriptor_of(image.target), dict(image.labels))


def _image_of(record: ImageRecord) -> images_pb2.Image:
    return images_pb2.Image(
        name=record.name, labels=record.labels, target=message_of(record.target)
    )
