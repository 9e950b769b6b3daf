"""Decompresses layers of our store, for `containerd.uncompressed_layers`."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from airside.archive.tar.compression import Compression, detect_compression, iter_decompressed
from airside.archive.tar.window_budget import WindowBudget
from airside.core.settings import CHUNK_BYTES, Limits
from airside.oci.digest import Digest
from airside.oci.model import Descriptor

_READ = frozenset({Compression.GZIP, Compression.ZSTD})
"""The compressions that containerd reads too; it shall refuse all others itself."""
_HEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class LayerTars:
    """Gives the tars of compressed layers. Thread-safe."""

    open_blob: Callable[[Digest], BinaryIO]
    limits: Limits
    windows: WindowBudget

    def __call__(
        self, layer: Descriptor, stop: Callable[[], bool]
    ) -> Generator[bytes, None, None] | None:
        """Returns the tar of a layer in chunks; None if containerd cannot read its compression.

        Raises NotFoundError, ArchiveError, StoppedError, and TrailingBytesError at the end.
        """
        with self.open_blob(layer.digest) as file:
            compression = detect_compression(file.read(_HEAD_BYTES))
        return self._chunks(layer.digest, compression, stop) if compression in _READ else None

    def _chunks(
        self, digest: Digest, compression: Compression, stop: Callable[[], bool]
    ) -> Generator[bytes, None, None]:
        with self.open_blob(digest) as file:
            chunks: Iterator[bytes] = iter(partial(file.read, CHUNK_BYTES), b"")
            yield from iter_decompressed(
                chunks,
                compression,
                limits=self.limits,
                windows=self.windows,
                notes=[],
                stop=stop,
            )
