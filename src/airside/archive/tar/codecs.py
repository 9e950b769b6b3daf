"""The compressions that are read: a table of codecs, with a parser of frame headers for each.

Frame headers are parsed here to know the decoder's memory before it is allocated, and because isal
fails on a gzip header that is split between two inputs. All decoders release the GIL.
"""

import bz2
import lzma
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, cast

from isal import igzip_lib
from lz4.frame import LZ4FrameDecompressor

from airside.archive.tar.byte_source import ByteSource, read_exactly, truncated
from airside.core.errors import ArchiveFormatError, ArchiveLimitError
from airside.core.settings import KIB, MIB, Limits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_WINDOW_BYTES = 32 * KIB
_GZIP_NAME_BYTES = 64 * KIB
SKIPPABLE = tuple(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))
"""Magic numbers of a frame without data, the same in zstd and lz4."""


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    LZ4 = "lz4"
    BZIP2 = "bzip2"
    XZ = "xz"


class Decoder(Protocol):
    """Decodes one frame: the interface that isal, zstd, bz2, lzma and lz4 have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of a frame: the decoder's memory, and a decoder for the bytes that follow."""

    window_bytes: int
    open: Callable[[], Decoder]


@dataclass(frozen=True, slots=True)
class Codec:
    """A row of the table. `begin` reads a frame's header; returns None if it skipped the frame."""

    name: str
    magics: tuple[bytes, ...]
    begin: Callable[[ByteSource, Limits], Frame | None]
    error: type[Exception]
    padding_bytes: int = 0
    """Zero bytes between frames are a multiple of this; 0 if the format allows none."""


def check_window(name: str, window_bytes: int, limits: Limits, option: str) -> None:
    """Raise ArchiveLimitError if a frame's decoder would need too much memory.

    `option` is the compressor's option that makes the window smaller.
    """
    if window_bytes > limits.window_bytes:
        raise ArchiveLimitError(
            f"the {name} data needs a window of {window_bytes} bytes; limits.window_bytes allows "
            f"{limits.window_bytes}: raise the limit, or compress with a smaller {option}",
            limit="limits.window_bytes",
        )


def _skip_frame(name: str, source: ByteSource) -> None:
    size = int.from_bytes(read_exactly(source, 8, name)[4:], "little")
    if source.skip(size) < size:
        raise truncated(name, source)


# gzip, RFC 1952

_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)  # its stub declares an instance
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 0x02, 0x04, 0x08, 0x10, 0xE0


def _begin_gzip(source: ByteSource, _limits: Limits) -> Frame:
    start = source.position
    header = read_exactly(source, 10, "gzip")
    method, flags = header[2], header[3]
    if method != 8 or flags & _RESERVED:
        raise ArchiveFormatError(f"the gzip header at byte {start} is damaged", offset=start)
    if flags & _FEXTRA:
        length = read_exactly(source, 2, "gzip")
        header += length + read_exactly(source, int.from_bytes(length, "little"), "gzip")
    if flags & _FNAME:
        header += _read_zero_ended(source)
    if flags & _FCOMMENT:
        header += _read_zero_ended(source)
    if flags & _FHCRC:
        expected = int.from_bytes(read_exactly(source, 2, "gzip"), "little")
        if zlib.crc32(header) & 0xFFFF != expected:
            raise ArchiveFormatError(f"the gzip header at byte {start} is damaged", offset=start)
    return Frame(GZIP_WINDOW_BYTES, _open_gzip)


def _read_zero_ended(source: ByteSource) -> bytes:
    count = 64
    while b"\0" not in (head := source.peek(count)):
        if len(head) < count:
            raise truncated("gzip", source)
        if count >= _GZIP_NAME_BYTES:
            raise ArchiveFormatError(
                f"the gzip header at byte {source.position} has a name or comment of more than "
                f"{_GZIP_NAME_BYTES} bytes",
                offset=source.position,
            )
        count *= 2
    return source.read(head.index(b"\0") + 1)


def _open_gzip() -> Decoder:
    """Returns a decoder for the bytes after the header; it checks CRC and size in the trailer."""
    decoder: Decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP_NO_HDR_VER)
    return decoder


# zstd, RFC 8878

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_HEADER_BYTES = 18


def _begin_zstd(source: ByteSource, limits: Limits) -> Frame | None:
    if source.peek(4) in SKIPPABLE:
        _skip_frame("zstd", source)
        return None
    window_bytes = _zstd_window(source)
    check_window("zstd", window_bytes, limits, "--long")
    log = min(max(math.ceil(math.log2(max(limits.window_bytes, 1))), 10), 31)
    options = {int(zstd.DecompressionParameter.window_log_max): log}
    return Frame(window_bytes, lambda: zstd.ZstdDecompressor(options=options))


def _zstd_window(source: ByteSource) -> int:
    """Returns the window in bytes that the frame header at the source needs (RFC 8878, 3.1.1.1)."""
    head = source.peek(_ZSTD_HEADER_BYTES)
    if len(head) < 6:
        raise truncated("zstd", source)
    descriptor = head[4]
    if not descriptor & 0x20:
        base = 1 << (10 + (head[5] >> 3))
        return base + (base >> 3) * (head[5] & 7)
    start = 5 + (0, 1, 2, 4)[descriptor & 3]
    width = (1, 2, 4, 8)[descriptor >> 6]
    if len(head) < start + width:
        raise truncated("zstd", source)
    size = int.from_bytes(head[start : start + width], "little")
    return size + 256 if width == 2 else size


# lz4: lz4_Frame_format.md, version 1.6.3

_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_LZ4_BLOCKS = {4: 64 * KIB, 5: 256 * KIB, 6: MIB, 7: 4 * MIB}
_LZ4_HISTORY_BYTES = 64 * KIB


class _Lz4Decoder:
    """The library's decoder, whose `unused_data` may be None."""

    def __init__(self) -> None:
        self._decoder = LZ4FrameDecompressor()

    @property
    def eof(self) -> bool:
        return bool(self._decoder.eof)

    @property
    def needs_input(self) -> bool:
        return bool(self._decoder.needs_input)

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data or b""

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        found: bytes = self._decoder.decompress(data, max_length)
        return found


def _begin_lz4(source: ByteSource, limits: Limits) -> Frame | None:
    if source.peek(4) in SKIPPABLE:
        _skip_frame("lz4", source)
        return None
    head = source.peek(7)
    if len(head) < 7:
        raise truncated("lz4", source)
    flags, block = head[4], _LZ4_BLOCKS.get(head[5] >> 4 & 7)
    if flags >> 6 != 1 or flags & 0x02 or block is None:
        raise ArchiveFormatError(
            f"the lz4 header at byte {source.position} is damaged", offset=source.position
        )
    if flags & 0x01:
        raise ArchiveFormatError(
            "the lz4 data needs a dictionary that the file does not have: compress it without one",
            offset=source.position,
        )
    window_bytes = 2 * block + _LZ4_HISTORY_BYTES
    check_window("lz4", window_bytes, limits, "block size (-B4)")
    return Frame(window_bytes, _Lz4Decoder)


def lz4_content_bytes(head: bytes) -> int | None:
    """Returns the content size in bytes from a frame header; None if it has none."""
    if len(head) < 14 or head[:4] != _LZ4_MAGIC or not head[4] & 0x08:
        return None
    return int.from_bytes(head[6:14], "little")


# bzip2

_BZIP2_MAGICS = tuple(b"BZh%d" % level for level in range(1, 10))


def _begin_bzip2(source: ByteSource, limits: Limits) -> Frame:
    """bzip2(1), MEMORY MANAGEMENT: decompression takes 100 kB and four times the block size."""
    window_bytes = 100_000 + 4 * 100_000 * (source.peek(4)[3] - ord("0"))
    check_window("bzip2", window_bytes, limits, "block size (-1)")
    return Frame(window_bytes, bz2.BZ2Decompressor)


# xz: xz-file-format.txt, version 1.2.1

_XZ_MAGIC = b"\xfd7zXZ\x00"
_XZ_HEADER_BYTES = 12
_LZMA2 = 0x21


def _begin_xz(source: ByteSource, limits: Limits) -> Frame:
    window_bytes = _xz_window(source)
    check_window("xz", window_bytes, limits, "dictionary (xz -6)")
    most = max(limits.window_bytes, window_bytes) + 16 * MIB  # for later blocks too, and for tables
    return Frame(window_bytes, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=most))


def _xz_window(source: ByteSource) -> int:
    """Returns the dictionary size of the first block in bytes; 0 in a stream without blocks (3.1).

    Damage is not reported here: the decoder reports it with its position.
    """
    head = source.peek(_XZ_HEADER_BYTES + 1)
    if len(head) <= _XZ_HEADER_BYTES:
        raise truncated("xz", source)
    size = (head[-1] + 1) * 4
    if size == 4:  # the index: there is no block
        return 0
    header = source.peek(_XZ_HEADER_BYTES + size)[_XZ_HEADER_BYTES:]
    if len(header) < size:
        raise truncated("xz", source)
    try:
        return _xz_dictionary(header)
    except IndexError:
        return 0


def _xz_dictionary(header: bytes) -> int:
    """Returns the dictionary size from a block header: flags, sizes, then the filters (5.3.1)."""
    flags, at = header[1], 2
    for bit in (0x40, 0x80):
        if flags & bit:
            _, at = xz_number(header, at)
    for _ in range((flags & 3) + 1):
        identity, at = xz_number(header, at)
        length, at = xz_number(header, at)
        if identity == _LZMA2:
            bits = header[at] & 0x3F
            return 0xFFFF_FFFF if bits >= 40 else (2 | bits & 1) << (bits // 2 + 11)
        at += length
    return 0


def xz_number(data: bytes, at: int) -> tuple[int, int]:
    """Returns a multibyte integer (1.2) and the position after it. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80 or shift > 56:
            return value, at


CODECS: Mapping[Compression, Codec] = {
    Compression.GZIP: Codec("gzip", (b"\x1f\x8b",), _begin_gzip, _ISAL_ERROR),
    Compression.ZSTD: Codec("zstd", (_ZSTD_MAGIC, *SKIPPABLE), _begin_zstd, zstd.ZstdError),
    Compression.LZ4: Codec("lz4", (_LZ4_MAGIC, *SKIPPABLE), _begin_lz4, RuntimeError),
    Compression.BZIP2: Codec("bzip2", _BZIP2_MAGICS, _begin_bzip2, OSError),
    Compression.XZ: Codec("xz", (_XZ_MAGIC,), _begin_xz, lzma.LZMAError, padding_bytes=4),
}
