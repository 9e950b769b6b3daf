"""The type of a fuzz target."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

Mutate = Callable[[bytes], bytes]
"""The fuzzer's own mutation of bytes."""


@dataclass(frozen=True)
class Target:
    """A function `check` that raises FindingError for a finding, and its inputs.

    `seeds` are made by the builders of the tests. `mutate` changes an input but leaves checksums
    and digests valid; without it, the fuzzer changes any bytes. Inputs have at most `max_bytes`.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, Random, Mutate], bytes] | None = None
    max_bytes: int = 4096


class FindingError(AssertionError):
    """An input for which a property of the target does not hold."""


def require(holds: object, what: str) -> None:
    """Raise FindingError with the text `what` unless `holds` is true."""
    if not holds:
        raise FindingError(what)
