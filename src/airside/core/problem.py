"""The reason why an image was not imported."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why an image, a name or a blob of an archive was not imported."""

    reason: str
    image: str = ""
    blob: str = ""
