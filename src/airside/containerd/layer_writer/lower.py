"""The layers below, where a directory that the layer does not list has its mode and owner."""

import os

from airside.core.errors import UnusualLayerError


class LowerDirectories:
    """The directories of the layers below, the uppermost first."""

    def __init__(self, roots: tuple[int, ...]) -> None:
        self._roots = roots

    def copy_to(self, descriptor: int, path: bytes) -> None:
        """Gives a new directory the attributes that it has in the layers below."""
        if self._roots:
            raise UnusualLayerError(f"directory {path!r}, which the layer does not list")
        os.fchmod(descriptor, 0o755)
