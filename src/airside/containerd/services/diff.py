"""The diff service: unpacks layers."""

from collections.abc import Callable, Iterable

from airside.containerd.channel import TRANSFER_SECONDS, Channel
from airside.containerd.proto import diff_pb2, types_pb2
from airside.containerd.services.descriptors import message_of
from airside.containerd.services.snapshots import Mount
from airside.oci.digest import Digest
from airside.oci.model import Descriptor

DIFF = "containerd.services.diff.v1.Diff"


class Diff:
    """Unpacks layers of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def apply(
        self,
        layer: Descriptor,
        mounts: Iterable[Mount],
        lease: str,
        *,
        stop: Callable[[], bool] | None = None,
    ) -> Digest:
        """Unpacks a layer of the namespace's content into mounts. Returns the digest of its tar.

        Raises NotFoundError if the blob is absent, StoppedError.
        """
        request = diff_pb2.ApplyRequest(
            diff=message_of(layer),
            mounts=[
                types_pb2.Mount(type=m.type, source=m.source, target=m.target, options=m.options)
                for m in mounts
            ],
        )
        answer = self._channel.call(
            f"{DIFF}/Apply",
            request,
            diff_pb2.ApplyResponse,
            lease=lease,
            seconds=TRANSFER_SECONDS,
            stop=stop,
        )
        algorithm, _, text = answer.applied.digest.partition(":")
        return Digest(algorithm, text)
