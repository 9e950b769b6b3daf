"""The content service: the blobs of a namespace, and the ingests that write them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from airside.containerd.channel import CALL_SECONDS, TRANSFER_SECONDS, Channel
from airside.containerd.proto import content_pb2
from airside.core.errors import NotFoundError
from airside.core.settings import MIB
from airside.oci.digest import Digest

CONTENT = "containerd.services.content.v1.Content"
_CHUNK_BYTES = 2 * MIB
"""The size of a streamed chunk: 1-3 MiB are fastest; containerd's gRPC limit is 16 MiB."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob of a namespace: size in bytes, and its labels."""

    digest: str
    size_bytes: int
    labels: Mapping[str, str]


class Content:
    """The blobs of one namespace. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def info(
        self, digest: Digest, *, namespace: str = "", seconds: float = CALL_SECONDS
    ) -> BlobInfo | None:
        """Returns the info of a blob, None if the namespace does not have it."""
        request = content_pb2.InfoRequest(digest=str(digest))
        try:
            answer = self._channel.call(
                f"{CONTENT}/Info",
                request,
                content_pb2.InfoResponse,
                namespace=namespace,
                seconds=seconds,
            )
        except NotFoundError:
            return None
        return _blob(answer.info)

    def list(self, *filters: str) -> Iterator[BlobInfo]:
        """Yields the blobs of the namespace: all, or those that pass one of the filters."""
        request = content_pb2.ListContentRequest(filters=filters)
        for answer in self._channel.read(
            f"{CONTENT}/List", request, content_pb2.ListContentResponse
        ):
            yield from map(_blob, answer.info)

    def label(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Sets these labels and leaves the others. Raises NotFoundError."""
        request = content_pb2.UpdateRequest(
            info=content_pb2.Info(digest=str(digest), labels=labels),
            update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
        )
        self._channel.call(f"{CONTENT}/Update", request, content_pb2.UpdateResponse)

    def adopt(
        self, key: str, digest: Digest, size_bytes: int, labels: Mapping[str, str], lease: str
    ) -> None:
        """Commits a blob whose file is in the content directory already, without sending it.

        `key` is the ingest key. Raises ConflictError if the namespace has the blob, and
        ContainerdError with the status OUT_OF_RANGE if the backend does not.
        """
        request = content_pb2.WriteContentRequest(
            action=content_pb2.COMMIT,
            ref=key,
            total=size_bytes,
            expected=str(digest),
            offset=size_bytes,
            labels=labels,
        )
        self._write([request], lease)

    def send(
        self,
        key: str,
        digest: Digest,
        size_bytes: int,
        labels: Mapping[str, str],
        lease: str,
        file: BinaryIO,
    ) -> None:
        """Sends a blob's bytes and commits it. Raises ConflictError if the namespace has it."""
        self._write(_chunks(key, digest, size_bytes, labels, file), lease)

    def _write(self, requests: Iterable[content_pb2.WriteContentRequest], lease: str) -> None:
        self._channel.write(
            f"{CONTENT}/Write",
            requests,
            content_pb2.WriteContentResponse,
            lease=lease,
            seconds=TRANSFER_SECONDS,
        )

    def delete(self, digest: Digest) -> None:
        """Deletes a blob from the namespace; does nothing if it is absent."""
        request = content_pb2.DeleteContentRequest(digest=str(digest))
        try:
            self._channel.call(f"{CONTENT}/Delete", request, Empty)
        except NotFoundError:
            return

    def abort(self, key: str) -> None:
        """Aborts an ingest; does nothing if there is none."""
        try:
            self._channel.call(f"{CONTENT}/Abort", content_pb2.AbortRequest(ref=key), Empty)
        except NotFoundError:
            return

    def ingests(self) -> Sequence[str]:
        """Returns the ingest keys of the namespace."""
        answer = self._channel.call(
            f"{CONTENT}/ListStatuses",
            content_pb2.ListStatusesRequest(),
            content_pb2.ListStatusesResponse,
        )
        return [status.ref for status in answer.statuses]

    def read(
        self,
        digest: Digest,
        *,
        offset: int = 0,
        size_bytes: int = 0,
        seconds: float = TRANSFER_SECONDS,
    ) -> Iterator[bytes]:
        """Yields the bytes of a blob from an offset; `size_bytes` 0 means to the end."""
        request = content_pb2.ReadContentRequest(digest=str(digest), offset=offset, size=size_bytes)
        for answer in self._channel.read(
            f"{CONTENT}/Read", request, content_pb2.ReadContentResponse, seconds=seconds
        ):
            yield answer.data


def _chunks(
    key: str, digest: Digest, size_bytes: int, labels: Mapping[str, str], file: BinaryIO
) -> Iterator[content_pb2.WriteContentRequest]:
    offset = 0
    while chunk := file.read(_CHUNK_BYTES):
        yield content_pb2.WriteContentRequest(
            action=content_pb2.WRITE,
            ref=key,
            total=size_bytes,
            expected=str(digest),
            offset=offset,
            data=chunk,
        )
        offset += len(chunk)
    yield content_pb2.WriteContentRequest(
        action=content_pb2.COMMIT,
        ref=key,
        total=size_bytes,
        expected=str(digest),
        offset=offset,
        labels=labels,
    )


def _blob(info: content_pb2.Info) -> BlobInfo:
    return BlobInfo(info.digest, info.size, dict(info.labels))
