"""Why an image was not taken."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an image, a name or a blob of an archive was not taken."""

    reason: str
    image: str = ""
    blob: str = ""
