"""The reason why an image was not imported."""

from collections.abc import Iterable
from dataclasses import dataclass, field

_MOST_CHARS = {"reason": 2_000, "image": 500, "blob": 500}


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why an image, a name or a blob of an archive was not imported."""

    reason: str
    image: str = ""
    blob: str = ""
    code: str = field(default="", compare=False)
    """That of the error (`core/errors.py`), for counting; a record in the catalog has none."""

    def __post_init__(self) -> None:
        """Shortens the texts: a document may name things by megabytes, and a problem is a row."""
        for name, most in _MOST_CHARS.items():
            text = getattr(self, name)
            if len(text) > most:
                object.__setattr__(self, name, text[:most] + "…")


def first_code(problems: Iterable[Problem]) -> str:
    """Returns the code of the first problem that has one; "" if none has."""
    return next((problem.code for problem in problems if problem.code), "")
