"""What a runtime tells: the outcome of a publish, and the changes that others make."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publish: the number of blobs placed each way, and the unpacking."""

    ways: Mapping[str, int]
    unpacked: bool
    not_unpacked: str = ""
    """Why the image cannot be unpacked; empty if it can."""
    chain: str = ""
    """The chain ID of the top layer, by which `Runtime.unpacked` has it; empty if it has none."""
    unpack_seconds: float = 0.0
    """0 if nothing was unpacked."""


@dataclass(frozen=True, slots=True)
class Change:
    """The name of a changed image, the key of an unpacked layer, or the ID of a container.

    The container is new, its process ended, or it was deleted (`has_ended`).
    """

    name: str
    is_container: bool = False
    has_ended: bool = False
