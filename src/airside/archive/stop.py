"""The request to blocking work that it ends early."""

from collections.abc import Callable

Stop = Callable[[], bool]
"""Returns True once the work must end: byte loops call it once per chunk, from any thread."""


def never() -> bool:
    return False
