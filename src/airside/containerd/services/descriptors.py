"""Converts descriptors from and to containerd's messages."""

from airside.containerd.proto import types_pb2
from airside.oci.digest import Digest
from airside.oci.model import Descriptor


def descriptor_of(message: types_pb2.Descriptor) -> Descriptor:
    """Returns the descriptor of a message."""
    algorithm, _, text = message.digest.partition(":")
    return Descriptor(
        message.media_type,
        Digest(algorithm, text),
        message.size,
        annotations=dict(message.annotations),
    )


def message_of(descriptor: Descriptor) -> types_pb2.Descriptor:
    """Returns the message of a descriptor."""
    return types_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=str(descriptor.digest),
        size=descriptor.size_bytes,
        annotations=descriptor.annotations,
    )
