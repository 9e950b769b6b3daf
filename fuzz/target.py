"""What a target is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

Mutate = Callable[[bytes], bytes]
"""The fuzzer's own mutation of bytes."""


@dataclass(frozen=True)
class Target:
    """`check` raises for a finding; `seeds` are made by the builders of the tests.

    `mutate` changes an input so that more than its bytes makes sense (checksums, links between
    documents); without it bytes are changed blindly. Inputs have at most `max_bytes`.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, Random, Mutate], bytes] | None = None
    max_bytes: int = 4096


class FindingError(AssertionError):
    """What must not happen did."""


def require(holds: object, what: str) -> None:
    if not holds:
        raise FindingError(what)
