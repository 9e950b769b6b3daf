"""Decompression: what a file is compressed with, and its bytes, in bounded memory.

The formats are one table (`_SIGNATURES`, `_CODECS`). A compressed file is a run of *frames* (gzip
calls them members). What always holds, and what happens (design 4.8):

- a frame that ends early: ArchiveTruncatedError;
- zero bytes after the last frame: accepted with a note;
- other bytes after the last frame: TrailingBytesError, after all data was given, so that the
  reader of the tar decides;
- damaged: ArchiveFormatError; a limit passed: ArchiveLimitError.

Decoders are driven by `eof` and `unused_data`, because the file classes of the libraries tell
truncation and trailing bytes badly apart. The headers of frames are read here: zstd's to know the
window before memory is taken, gzip's because isal fails on a header that is split between two
inputs. Both decoders release the GIL. No I/O here; opening and closing files is the caller's.
"""

import math
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, cast

from isal import igzip_lib

from airside.archive.windows import Reservation, WindowBudget, never
from airside.config import CHUNK_BYTES, GIB, KIB, Limits
from airside.errors import (
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RATIO_FREE_BYTES = GIB
"""Output up to this size is not held against `limits.ratio`."""
GZIP_WINDOW_BYTES = 32 * KIB
_FIRST_FEED_BYTES = 4 * KIB
_FEED_BYTES = 512 * KIB
_GZIP_NAME_BYTES = 64 * KIB


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class TrailingBytesError(ArchiveFormatError):
    """Bytes that belong to no frame follow the compressed data, which was given whole."""


# Recognising


@dataclass(frozen=True, slots=True)
class _Signature:
    name: str
    pattern: bytes
    compression: Compression | None = None
    hint: str = "decompress it, or compress it again with zstd or gzip"


_UNPACK = "unpack it: images are read from tar archives, plain or compressed with gzip or zstd"
_SIGNATURES = (
    _Signature("gzip", rb"\x1f\x8b", Compression.GZIP),
    _Signature("zstd", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", Compression.ZSTD),
    _Signature("zstd before version 0.8", rb"[\x1e\x22-\x27]\xb5\x2f\xfd"),
    _Signature("xz", rb"\xfd7zXZ\x00"),
    _Signature("bzip2", rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    _Signature("lz4", rb"\x04\x22\x4d\x18"),
    _Signature("lz4 (the legacy frame)", rb"\x02\x21\x4c\x18"),
    # properties, a dictionary of 64 KiB or more, then a size that is unknown or below 2^56
    _Signature("lzma", rb"\x5d\x00\x00(?!\x00\x00)..(\xff{8}|.{7}\x00)"),
    _Signature("compress (.Z)", rb"\x1f[\x9d\xa0]"),
    _Signature("lzip", rb"LZIP\x01"),
    _Signature("zip", rb"PK(\x03\x04|\x05\x06)", hint=_UNPACK),
    _Signature("7z", rb"7z\xbc\xaf\x27\x1c", hint=_UNPACK),
    _Signature("rar", rb"Rar!\x1a\x07", hint=_UNPACK),
)


def _signature_of(head: bytes) -> _Signature | None:
    return next((s for s in _SIGNATURES if re.match(s.pattern, head, re.DOTALL)), None)


def compression_name(head: bytes) -> str | None:
    """The name of the compression that these first bytes look like, also one that is not read."""
    signature = _signature_of(head)
    return signature.name if signature else None


def detect_compression(head: bytes) -> Compression:
    """Tell the compression by the first bytes (16 are enough); NONE for anything not known.

    Raises ArchiveFormatError for a format that is recognised but not read, naming it.
    """
    signature = _signature_of(head)
    if signature is None:
        return Compression.NONE
    if signature.compression is None:
        raise ArchiveFormatError(
            f"the archive is in the format {signature.name}, which is not read; {signature.hint}",
            found=signature.name,
            hint=signature.hint,
        )
    return signature.compression


# Bytes


def content_bytes(head: bytes, compression: Compression) -> int | None:
    """The decompressed size that the first frame's header tells; None where it tells none.

    At least so many bytes come out (more if frames follow). gzip has no such field.
    """
    if compression is not Compression.ZSTD:
        return None
    try:
        return zstd.get_frame_info(head).decompressed_size
    except zstd.ZstdError:
        return None  # damage that the decoder tells better


class ByteSource:
    """A run of byte chunks read as one stream; not thread-safe. `position` is in bytes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._start = 0
        self.position = 0

    def peek(self, count: int) -> bytes:
        """Look at the next bytes; fewer than asked for only at the end."""
        while len(self._buffer) - self._start < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._buffer = self._buffer[self._start :] + chunk
            self._start = 0
        return self._buffer[self._start : self._start + count]

    def take(self, limit: int) -> memoryview:
        """Take some bytes without copying, at most `limit`; none only at the end."""
        while self._start == len(self._buffer):
            chunk = next(self._chunks, None)
            if chunk is None:
                return memoryview(b"")
            self._buffer, self._start = chunk, 0
        end = min(self._start + limit, len(self._buffer))
        piece = memoryview(self._buffer)[self._start : end]
        self.position += end - self._start
        self._start = end
        return piece

    def give_back(self, count: int) -> None:
        """Undo the last bytes of the last `take`."""
        self._start -= count
        self.position -= count

    def read(self, count: int) -> bytes:
        """Take exactly so many bytes; fewer only at the end."""
        data = self.peek(count)
        self._start += len(data)
        self.position += len(data)
        return data

    def skip(self, count: int) -> int:
        """Pass over bytes; returns how many there were, fewer than asked for only at the end."""
        left = count
        while left and (piece := self.take(left)):
            left -= len(piece)
        return count - left


# Frames


class _Decoder(Protocol):
    """One frame being decoded; what isal, zstd, bz2, lzma and lz4 have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Frame:
    """The start of a frame: what it needs, and how to decode what follows in the source."""

    window_bytes: int
    open: Callable[[], _Decoder]


@dataclass(frozen=True, slots=True)
class _Codec:
    """A row of the table. `begin` reads a frame's header; None: a frame without data, passed."""

    name: str
    magics: tuple[bytes, ...]
    begin: Callable[[ByteSource, Limits], _Frame | None]
    error: type[Exception]


def iter_decompressed(
    chunks: Iterable[bytes],
    compression: Compression,
    *,
    limits: Limits,
    windows: WindowBudget,
    notes: list[str],
    stop: Callable[[], bool] = never,
) -> Iterator[bytes]:
    """Give the decompressed bytes in chunks of at most CHUNK_BYTES.

    Close the iterator (or exhaust it) to give back its share of `windows`; `stop` ends a wait for
    it. Raises ArchiveTruncatedError, ArchiveFormatError, ArchiveLimitError, StoppedError, and
    TrailingBytesError after the last chunk.
    """
    source = ByteSource(chunks)
    if compression is Compression.NONE:
        yield from _limited(_iter_plain(source), source, limits)
        return
    codec = _CODECS[compression]
    with windows.reserve(stop=stop) as reservation:
        parts = _iter_frames(codec, source, limits, reservation)
        yield from _limited(parts, source, limits)
    _read_rest(codec, source, notes)


def _iter_plain(source: ByteSource) -> Iterator[bytes]:
    while piece := source.take(CHUNK_BYTES):
        whole = piece.obj
        yield whole if isinstance(whole, bytes) and len(whole) == len(piece) else bytes(piece)


def _limited(parts: Iterable[bytes], source: ByteSource, limits: Limits) -> Iterator[bytes]:
    produced = 0
    for part in parts:
        produced += len(part)
        if produced > limits.total_bytes:
            raise _over_limit(f"more than {limits.total_bytes} bytes", "limits.total_bytes")
        if produced > RATIO_FREE_BYTES and produced > limits.ratio * source.position:
            raise _over_limit(f"more than {limits.ratio} times its size", "limits.ratio")
        yield part


def _over_limit(what: str, limit: str) -> ArchiveLimitError:
    return ArchiveLimitError(
        f"the archive decompresses to {what}; raise {limit} if it is to be trusted", limit=limit
    )


def _iter_frames(
    codec: _Codec, source: ByteSource, limits: Limits, reservation: Reservation
) -> Iterator[bytes]:
    if not _at_frame(codec, source):
        if not source.peek(1):
            raise ArchiveTruncatedError(f"the {codec.name} file is empty", offset=0)
        raise ArchiveFormatError(f"the file does not begin as {codec.name} does", offset=0)
    while _at_frame(codec, source):
        frame = codec.begin(source, limits)
        if frame is not None:
            reservation.grow(frame.window_bytes)
            yield from _iter_frame(codec, frame.open(), source)


def _at_frame(codec: _Codec, source: ByteSource) -> bool:
    """Whether a frame begins here. A magic number that is cut off raises ArchiveTruncatedError."""
    head = source.peek(len(codec.magics[0]))
    if head in codec.magics:
        return True
    if head and any(magic.startswith(head) for magic in codec.magics):
        raise _truncated(codec.name, source)
    return False


def _iter_frame(codec: _Codec, decoder: _Decoder, source: ByteSource) -> Iterator[bytes]:
    """Decode one frame. Feeds little at first: what is left over of a tiny frame is copied."""
    feed_bytes = _FIRST_FEED_BYTES
    while not decoder.eof:
        piece = source.take(feed_bytes) if decoder.needs_input else memoryview(b"")
        if not piece and decoder.needs_input:
            raise _truncated(codec.name, source)
        try:
            part = decoder.decompress(piece, CHUNK_BYTES)
        except codec.error as exc:
            raise ArchiveFormatError(
                f"the {codec.name} data is damaged before byte {source.position}: {exc}",
                offset=source.position,
            ) from exc
        if part:
            yield part
        feed_bytes = min(feed_bytes * 2, _FEED_BYTES)
    source.give_back(len(decoder.unused_data))


def _read_rest(codec: _Codec, source: ByteSource, notes: list[str]) -> None:
    """Read what follows the last frame: zeros are padding, all else raises TrailingBytesError."""
    start = source.position
    while piece := source.take(CHUNK_BYTES):
        if bytes(piece).strip(b"\0"):
            raise TrailingBytesError(
                f"after the {codec.name} data, which ends at byte {start}, follow other bytes",
                offset=start,
            )
    if source.position > start:
        notes.append(f"{source.position - start} zero bytes follow the {codec.name} data")


def _truncated(name: str, source: ByteSource) -> ArchiveTruncatedError:
    end = source.position + len(source.peek(CHUNK_BYTES))
    return ArchiveTruncatedError(
        f"the {name} data ends early, after {end} bytes; at least one more is missing", offset=end
    )


def _read_exactly(source: ByteSource, count: int, name: str) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise _truncated(name, source)
    return data


# gzip, RFC 1952

_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)  # its stub declares an instance
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 0x02, 0x04, 0x08, 0x10, 0xE0


def _begin_gzip(source: ByteSource, _limits: Limits) -> _Frame:
    start = source.position
    header = _read_exactly(source, 10, "gzip")
    method, flags = header[2], header[3]
    if method != 8 or flags & _RESERVED:
        raise ArchiveFormatError(f"the gzip header at byte {start} is damaged", offset=start)
    if flags & _FEXTRA:
        length = _read_exactly(source, 2, "gzip")
        header += length + _read_exactly(source, int.from_bytes(length, "little"), "gzip")
    if flags & _FNAME:
        header += _read_zero_ended(source)
    if flags & _FCOMMENT:
        header += _read_zero_ended(source)
    if flags & _FHCRC:
        expected = int.from_bytes(_read_exactly(source, 2, "gzip"), "little")
        if zlib.crc32(header) & 0xFFFF != expected:
            raise ArchiveFormatError(f"the gzip header at byte {start} is damaged", offset=start)
    return _Frame(GZIP_WINDOW_BYTES, _open_gzip)


def _read_zero_ended(source: ByteSource) -> bytes:
    count = 64
    while b"\0" not in (head := source.peek(count)):
        if len(head) < count:
            raise _truncated("gzip", source)
        if count >= _GZIP_NAME_BYTES:
            raise ArchiveFormatError(
                f"the gzip header at byte {source.position} has an endless name",
                offset=source.position,
            )
        count *= 2
    return source.read(head.index(b"\0") + 1)


def _open_gzip() -> _Decoder:
    """A decoder of what follows the header; it checks CRC and size in the trailer."""
    decoder: _Decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP_NO_HDR_VER)
    return decoder


# zstd, RFC 8878

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = tuple(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))
_ZSTD_HEADER_BYTES = 18


def _begin_zstd(source: ByteSource, limits: Limits) -> _Frame | None:
    if source.peek(4) in _ZSTD_SKIPPABLE:
        size = int.from_bytes(_read_exactly(source, 8, "zstd")[4:], "little")
        if source.skip(size) < size:
            raise _truncated("zstd", source)
        return None
    window_bytes = _zstd_window(source)
    if window_bytes > limits.window_bytes:
        raise ArchiveLimitError(
            f"the zstd data asks for a window of {window_bytes} bytes; limits.window_bytes allows "
            f"{limits.window_bytes}. Raise it, or compress with a smaller --long",
            limit="limits.window_bytes",
        )
    log = min(max(math.ceil(math.log2(max(limits.window_bytes, 1))), 10), 31)
    options = {int(zstd.DecompressionParameter.window_log_max): log}
    return _Frame(window_bytes, lambda: zstd.ZstdDecompressor(options=options))


def _zstd_window(source: ByteSource) -> int:
    """The window that the frame header here asks for, in bytes (RFC 8878, 3.1.1.1)."""
    head = source.peek(_ZSTD_HEADER_BYTES)
    if len(head) < 6:
        raise _truncated("zstd", source)
    descriptor = head[4]
    if not descriptor & 0x20:
        base = 1 << (10 + (head[5] >> 3))
        return base + (base >> 3) * (head[5] & 7)
    start = 5 + (0, 1, 2, 4)[descriptor & 3]
    width = (1, 2, 4, 8)[descriptor >> 6]
    if len(head) < start + width:
        raise _truncated("zstd", source)
    size = int.from_bytes(head[start : start + width], "little")
    return size + 256 if width == 2 else size


_CODECS: Mapping[Compression, _Codec] = {
    Compression.GZIP: _Codec("gzip", (b"\x1f\x8b",), _begin_gzip, _ISAL_ERROR),
    Compression.ZSTD: _Codec("zstd", (_ZSTD_MAGIC, *_ZSTD_SKIPPABLE), _begin_zstd, zstd.ZstdError),
}
