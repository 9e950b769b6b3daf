"""The record of links into containerd's content directory that a crash may leave."""

from collections.abc import Iterable, Mapping
from typing import Protocol


class Intents(Protocol):
    """The durable record of links about to be made, of one runtime: path → digest."""

    def record(self, targets: Mapping[str, str]) -> None: ...
    def clear(self, targets: Iterable[str]) -> None: ...
    def left(self) -> list[tuple[str, str]]: ...
