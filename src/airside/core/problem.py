"""The reason why an image was not imported."""

from dataclasses import dataclass

_MOST_CHARS = {"reason": 2_000, "image": 500, "blob": 500}


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why an image, a name or a blob of an archive was not imported."""

    reason: str
    image: str = ""
    blob: str = ""

    def __post_init__(self) -> None:
        """Shortens the texts: a document may name things by megabytes, and a problem is a row."""
        for name, most in _MOST_CHARS.items():
            text = getattr(self, name)
            if len(text) > most:
                object.__setattr__(self, name, text[:most] + "…")
