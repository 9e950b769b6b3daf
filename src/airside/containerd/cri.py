"""CRI on containerd's socket, as kubelet and crictl use it.

If the CRI plugin is switched off, calls raise ContainerdError with the status UNIMPLEMENTED.
Thread-safe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airside.containerd.channel import CALL_SECONDS, Channel
from airside.containerd.proto import cri_pb2

IMAGE_SERVICE = "runtime.v1.ImageService"
RUNTIME_SERVICE = "runtime.v1.RuntimeService"
PULL_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class CriImage:
    """An image as `crictl images` shows it; size in bytes."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class CriContainer:
    """A container and the image ID that it was made from."""

    id: str
    image: str
    image_id: str


class Cri:
    """The CRI calls that Airside needs."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def version(self, *, seconds: float = CALL_SECONDS) -> tuple[str, str]:
        """Returns (name, version) of the runtime behind CRI."""
        answer = self._channel.call(
            f"{RUNTIME_SERVICE}/Version",
            cri_pb2.VersionRequest(),
            cri_pb2.VersionResponse,
            seconds=seconds,
        )
        return answer.runtime_name, answer.runtime_version.removeprefix("v")

    def status(self) -> tuple[list[tuple[str, bool, str]], Mapping[str, str]]:
        """Returns the conditions as (type, status, message), and CRI's verbose info."""
        answer = self._channel.call(
            f"{RUNTIME_SERVICE}/Status",
            cri_pb2.StatusRequest(verbose=True),
            cri_pb2.StatusResponse,
        )
        return [(c.type, c.status, c.message) for c in answer.status.conditions], dict(answer.info)

    def images(self) -> list[CriImage]:
        answer = self._channel.call(
            f"{IMAGE_SERVICE}/ListImages",
            cri_pb2.ListImagesRequest(),
            cri_pb2.ListImagesResponse,
        )
        return [_image(image) for image in answer.images]

    def image(self, name: str, *, stop: Callable[[], bool] = lambda: False) -> CriImage | None:
        """Returns the image of this name, None if absent. Raises StoppedError."""
        request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=name))
        answer = self._channel.call_until(
            f"{IMAGE_SERVICE}/ImageStatus",
            request,
            cri_pb2.ImageStatusResponse,
            stop=stop,
            seconds=CALL_SECONDS,
        )
        return _image(answer.image) if answer.HasField("image") else None

    def pull(
        self,
        name: str,
        *,
        seconds: float = PULL_SECONDS,
        stop: Callable[[], bool] = lambda: False,
    ) -> str:
        """Pulls as kubelet does, with CRI's mirrors and credentials. Returns the image ID.

        Raises StoppedError on `stop`; containerd then cancels the pull too.
        """
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        answer = self._channel.call_until(
            f"{IMAGE_SERVICE}/PullImage",
            request,
            cri_pb2.PullImageResponse,
            stop=stop,
            seconds=seconds,
        )
        return answer.image_ref

    def remove_image(self, name: str) -> None:
        request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=name))
        self._channel.call(f"{IMAGE_SERVICE}/RemoveImage", request, cri_pb2.RemoveImageResponse)

    def file_systems(self) -> list[tuple[str, int]]:
        """Returns (mount point, used bytes) of the snapshotter's file systems."""
        answer = self._channel.call(
            f"{IMAGE_SERVICE}/ImageFsInfo",
            cri_pb2.ImageFsInfoRequest(),
            cri_pb2.ImageFsInfoResponse,
            seconds=CALL_SECONDS,
        )
        return [(f.fs_id.mountpoint, f.used_bytes.value) for f in answer.image_filesystems]

    def containers(self) -> list[CriContainer]:
        answer = self._channel.call(
            f"{RUNTIME_SERVICE}/ListContainers",
            cri_pb2.ListContainersRequest(),
            cri_pb2.ListContainersResponse,
        )
        return [CriContainer(c.id, c.image.image, c.image_ref) for c in answer.containers]


def _image(image: cri_pb2.Image) -> CriImage:
    return CriImage(
        image.id, tuple(image.repo_tags), tuple(image.repo_digests), image.size, image.pinned
    )
