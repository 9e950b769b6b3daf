"""Checks layers while their bytes pass by, whether they are compressed or not.

Layers are tars, plain or compressed with gzip or zstd; others are passed over. Decompressing is
the costly part, so an import has a budget of bytes for it; the rest is checked when the image is
published and containerd refuses it.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

from isal import isal_zlib

from airside.archive.formats.plan import layer_compression
from airside.archive.layer_check import LayerCheck, Refused
from airside.core.settings import KIB, MIB
from airside.oci.digest import BytesLike

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IMPORT_BYTES = 256 * MIB
"""Decompressed bytes of one archive that an import checks: 0.6 s of processor time."""
_ISAL_ERROR = cast("type[Exception]", isal_zlib.error)  # its stub declares an instance
_WINDOW_LOG = 23
"""8 MiB: what `zstd` takes up to level 19, in memory for each layer that is read."""
_PIECE_BYTES = MIB
_FEED_BYTES = 64 * KIB
"""Decoders copy what follows the end of a frame: less at once costs less where frames are tiny."""
_FRAME_COST = 16 * KIB
"""What each frame or member takes of the room: a layer may have very many empty ones."""


@dataclass(slots=True)
class LayerProbes:
    """The checks of one archive's members, by their names. Thread-safe for different members.

    `room_bytes`: what may still be decompressed; None: anything.
    """

    room_bytes: int | None = IMPORT_BYTES
    found: dict[str, tuple[Refused, ...]] = field(default_factory=dict)

    def watched(self, name: str, pieces: Iterable[BytesLike]) -> Iterator[BytesLike]:
        """Yields the pieces of a member, and records what containerd would refuse of it."""
        probe = _Probe(self)
        self.found.pop(name, None)
        for piece in pieces:
            probe.feed(piece)
            yield piece
        if probe.check.found:
            self.found[name] = tuple(probe.check.found)

    def take(self, count: int) -> bool:
        """Takes bytes of the room. Returns False once it is used up."""
        if self.room_bytes is None:
            return True
        self.room_bytes -= count
        return self.room_bytes >= 0


@dataclass(slots=True)
class _Probe:
    probes: LayerProbes
    check: LayerCheck = field(default_factory=LayerCheck)
    _begun: bool = False
    _gzip: "isal_zlib.Decompress | None" = None
    _zstd: "zstd.ZstdDecompressor | None" = None

    def feed(self, piece: BytesLike) -> None:
        if self.check.ended or not len(piece):
            return
        if not self._begun:
            self._begin(bytes(piece[:16]))
        try:
            for chunk in self._tar(piece):
                self.check.feed(chunk)
                if self.check.ended:
                    return
        except (_ISAL_ERROR, zstd.ZstdError, EOFError):
            self.check.ended = True  # whether it is damaged is for others to say

    def _begin(self, head: bytes) -> None:
        self._begun = True
        compression = layer_compression(head)
        if compression == "gzip":
            self._gzip = isal_zlib.decompressobj(wbits=31)
        elif compression == "zstd":
            self._zstd = _zstd_decoder()
        elif compression:
            self.check.ended = True

    def _tar(self, piece: BytesLike) -> Iterator[BytesLike]:
        if self._gzip is None and self._zstd is None:
            yield piece
            return
        for at in range(0, len(piece), _FEED_BYTES):
            part = piece[at : at + _FEED_BYTES]
            yield from self._unzstd(part) if self._gzip is None else self._gunzipped(part)
            if self.check.ended:
                return

    def _gunzipped(self, piece: BytesLike) -> Iterator[bytes]:
        data: BytesLike = piece
        while len(data):
            assert self._gzip is not None
            if self._gzip.eof:  # the next member
                self._gzip = isal_zlib.decompressobj(wbits=31)
                self.probes.take(_FRAME_COST)
            chunk = self._gzip.decompress(data, _PIECE_BYTES)
            if not self.probes.take(len(chunk)):
                self.check.ended = True
                return
            yield chunk
            data = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail
            if self._gzip.eof and not data.strip(b"\0"):
                return

    def _unzstd(self, piece: BytesLike) -> Iterator[bytes]:
        data = bytes(piece)
        while True:
            assert self._zstd is not None
            chunk = self._zstd.decompress(data, _PIECE_BYTES)
            if not self.probes.take(len(chunk)):
                self.check.ended = True
                return
            yield chunk
            if self._zstd.eof:
                data = self._zstd.unused_data
                self._zstd = _zstd_decoder()
                self.probes.take(_FRAME_COST)
                if not data:
                    return
            elif self._zstd.needs_input:
                return
            else:
                data = b""


def _zstd_decoder() -> zstd.ZstdDecompressor:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)
