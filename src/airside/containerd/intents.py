"""The record of links into containerd's content directory that may be left by a crash."""

from collections.abc import Iterable, Mapping
from typing import Protocol


class Intents(Protocol):
    """The durable record of links that are about to be made, of one runtime."""

    def record(self, targets: Mapping[str, str]) -> None: ...
    def clear(self, targets: Iterable[str]) -> None: ...
    def left(self) -> list[tuple[str, str]]: ...
