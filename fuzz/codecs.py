"""Compares each decompression driver with the library's decoder, which gets a whole frame at once.

Both return the same bytes or both refuse. The chunking does not matter. Sizes in headers are true.
"""

import bz2
import gzip
import io
import lzma
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import lz4.frame

from airside.archive.tar.compression import (
    Compression,
    TrailingBytesError,
    compression_name,
    content_bytes,
    detect_compression,
    iter_decompressed,
)
from airside.archive.tar.window_budget import WindowBudget
from airside.core.errors import (
    ArchiveError,
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
)
from airside.core.settings import MIB, Limits
from fuzz.target import Mutate, Target, require

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMITS = Limits(total_bytes=2 * MIB, window_bytes=8 * MIB)
WHOLE, TRAILING, CUT, BAD, OVER = "whole", "trailing", "truncated", "damaged", "over a limit"
_ENDS = {
    TrailingBytesError: TRAILING,
    ArchiveTruncatedError: CUT,
    ArchiveFormatError: BAD,
    ArchiveLimitError: OVER,
}


_TAKEN = frozenset({WHOLE, TRAILING})


def check(kind: Compression, data: bytes) -> None:
    plain, end = _ours(kind, data, len(data) or 1)
    other, other_end = _ours(kind, data, 1 + sum(data[:64]) % 61)
    if kind is Compression.ZSTD and _zstd_wavers(data):
        return
    if end in _TAKEN or other_end in _TAKEN:
        require(end == other_end, f"another chunking ends with {other_end}, not {end}")
        require(plain == other, "another chunking decodes other bytes")
    _check_promises(kind, data, plain, end)
    if end == WHOLE:
        _check_cut(kind, data, plain)
    if OVER not in {end, other_end}:
        _compare(_reference(kind, data), plain, end)


def _compare(expected: bytes | None, plain: bytes, end: str) -> None:
    if end in _TAKEN:
        require(expected is not None, f"accepted ({end}), but the library refuses it")
        require(plain == expected, "the library decodes other bytes")
    else:
        require(expected is None, f"refused ({end}), but the library reads it")


def _check_cut(kind: Compression, data: bytes, plain: bytes) -> None:
    """Check that the beginning of valid data is incomplete at most, never damaged."""
    cut = zlib.crc32(data) % len(data)
    part, end = _ours(kind, data[:cut], 1 + cut % 300)
    require(end in {WHOLE, CUT}, f"cut to {cut} bytes it is {end}")
    require(plain.startswith(part), f"cut to {cut} bytes it has other bytes")


def _ours(kind: Compression, data: bytes, size: int) -> tuple[bytes, str]:
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    windows = WindowBudget(64 * MIB)
    out = bytearray()
    end = WHOLE
    try:
        for part in iter_decompressed(chunks, kind, limits=LIMITS, windows=windows, notes=[]):
            out += part
    except ArchiveError as exc:
        end = _ENDS[type(exc)]
    require(windows.held_bytes == 0, "the window's memory was not released")
    return bytes(out), end


def _check_promises(kind: Compression, data: bytes, plain: bytes, end: str) -> None:
    """Check the compression and size that the first bytes announce."""
    compression_name(data[:4096])
    try:
        found = detect_compression(data[:4096])
    except ArchiveFormatError:
        found = None
    size = content_bytes(data[:4096], kind, lambda count, at: data[at : at + count], len(data))
    if end != WHOLE:
        return
    shared = {Compression.ZSTD, Compression.LZ4}  # frames without data are the same in both
    require(found is kind or (kind in shared and found in shared), f"detected as {found}")
    if kind is Compression.XZ and size is not None:
        require(size == len(plain), f"the index says {size} bytes of {len(plain)}")
    elif size is not None:
        require(size <= len(plain), f"the header says {size} bytes of {len(plain)}")


# The libraries, one frame at a time


_REFUSALS = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    MemoryError,  # lz4 allocates the size in the header before it reads further
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
)

_Frame = Callable[[bytes], tuple[bytes, int]]
"""Decodes the first frame: returns its bytes and its length. Raises the library's errors."""


def _reference(kind: Compression, data: bytes) -> bytes | None:
    """Returns the bytes of all frames; None if there is none, or one is damaged or truncated."""
    magics, frame, padding = _LIBRARIES[kind]
    out, at = b"", 0
    while any(data.startswith(magic, at) for magic in magics):
        try:
            part, size = frame(data[at:])
        except _REFUSALS:
            return None
        out, at = out + part, at + size
        zeros = len(data) - at - len(data[at:].lstrip(b"\0"))
        if padding and zeros % padding == 0:
            at += zeros
    rest = data[at:]
    is_cut = rest and any(magic.startswith(rest) for magic in magics)
    return None if at == 0 or is_cut else out


def _by_object(opened: Callable[[], object], data: bytes) -> tuple[bytes, int]:
    decoder = opened()
    out = decoder.decompress(data, LIMITS.total_bytes + 1)
    if not decoder.eof:
        raise EOFError
    return out, len(data) - len(decoder.unused_data)


def _skipped(data: bytes) -> int:
    """Returns the length of a frame without data."""
    if len(data) < 8 or len(data) < 8 + struct.unpack("<I", data[4:8])[0]:
        raise EOFError
    return 8 + struct.unpack("<I", data[4:8])[0]


def _zstd_frame(data: bytes) -> tuple[bytes, int]:
    if data[:4] != b"\x28\xb5\x2f\xfd":
        return b"", _skipped(data)
    return _by_object(zstd.ZstdDecompressor, data)


def _zstd_wavers(data: bytes) -> bool:
    """Returns True if the library decodes the data differently when it is fed byte by byte.

    Fed a whole frame it refuses compressed blocks of no bytes; fed byte by byte it accepts them.
    """
    fed: list[bytes | None] = []
    for step in (len(data) or 1, 1):
        try:
            fed.append(_fed_frames(data, step))
        except zstd.ZstdError:
            fed.append(None)
    return fed[0] != fed[1]


def _fed_frames(data: bytes, step: int) -> bytes:
    out, at = b"", 0
    while at < len(data) and data.startswith((b"\x28\xb5\x2f\xfd", *_SKIPPABLE), at):
        decoder = zstd.ZstdDecompressor()
        while not decoder.eof and len(out) <= LIMITS.total_bytes and at < len(data):
            out += decoder.decompress(data[at : at + step], LIMITS.total_bytes)
            at += step
        at -= len(decoder.unused_data)
    return out


def _lz4_frame(data: bytes) -> tuple[bytes, int]:
    if data[:4] != b"\x04\x22\x4d\x18":
        return b"", _skipped(data)
    return lz4.frame.decompress(data, return_bytes_read=True)


_SKIPPABLE = [bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60)]
_LIBRARIES: dict[Compression, tuple[list[bytes], _Frame, int]] = {
    Compression.GZIP: (
        [b"\x1f\x8b"],
        partial(_by_object, partial(zlib.decompressobj, 31)),
        0,
    ),
    Compression.ZSTD: ([b"\x28\xb5\x2f\xfd", *_SKIPPABLE], _zstd_frame, 0),
    Compression.LZ4: ([b"\x04\x22\x4d\x18", *_SKIPPABLE], _lz4_frame, 0),
    Compression.BZIP2: (
        [b"BZh%d" % level for level in range(1, 10)],
        partial(_by_object, bz2.BZ2Decompressor),
        0,
    ),
    Compression.XZ: (
        [b"\xfd7zXZ\0"],
        partial(_by_object, partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, 24 * MIB)),
        4,
    ),
}


# Inputs


_PLAIN = (b"", b"x", b"some text, some text, some text", bytes(3000), bytes(range(256)) * 4)


def _packed(kind: Compression) -> Iterator[bytes]:
    for plain in _PLAIN:
        yield from _PACKERS[kind](plain)


def _gzip(plain: bytes) -> Iterator[bytes]:
    yield gzip.compress(plain, mtime=0)
    yield gzip.compress(plain, compresslevel=0, mtime=0)
    out = io.BytesIO()
    with gzip.GzipFile("name", "wb", fileobj=out, mtime=1) as file:
        file.write(plain)
    yield out.getvalue()
    body = gzip.compress(plain, mtime=0)[10:]
    head = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff" + b"\x04\0ab\0\0" + b"name\0" + b"comment\0"
    yield head + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + body


def _zstd(plain: bytes) -> Iterator[bytes]:
    yield zstd.compress(plain)
    parameter = zstd.CompressionParameter
    yield zstd.compress(plain, options={parameter.checksum_flag: 1, parameter.window_log: 20})
    compressor = zstd.ZstdCompressor(options={parameter.window_log: 12})
    yield compressor.compress(plain) + compressor.flush()
    yield b"\x5a\x2a\x4d\x18\x03\0\0\0abc" + zstd.compress(plain)


def _lz4(plain: bytes) -> Iterator[bytes]:
    for linked, checksums in ((True, False), (False, True)):
        yield lz4.frame.compress(
            plain,
            block_linked=linked,
            content_checksum=checksums,
            block_checksum=checksums,
            store_size=checksums,
            block_size=lz4.frame.BLOCKSIZE_MAX64KB,
        )
    yield b"\x50\x2a\x4d\x18\x03\0\0\0abc" + lz4.frame.compress(plain)


def _bzip2(plain: bytes) -> Iterator[bytes]:
    yield bz2.compress(plain)
    yield bz2.compress(plain, 1)


def _xz(plain: bytes) -> Iterator[bytes]:
    last = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}
    for filters in (
        [last],
        [{"id": lzma.FILTER_DELTA, "dist": 4}, last],
        [{"id": lzma.FILTER_X86}, last],
    ):
        for sum_kind in (lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_SHA256):
            yield lzma.compress(plain, check=sum_kind, filters=filters)


_PACKERS = {
    Compression.GZIP: _gzip,
    Compression.ZSTD: _zstd,
    Compression.LZ4: _lz4,
    Compression.BZIP2: _bzip2,
    Compression.XZ: _xz,
}


def seeds(kind: Compression) -> Iterator[bytes]:
    packed = list(_packed(kind))
    yield from packed
    first, second = packed[0], packed[-1]
    yield first + second
    yield second + bytes(8)
    yield second + bytes(4) + first
    yield second + b"rest"
    yield second[:-3]
    yield first + second[:9]


def mutate_xz(data: bytes, rng: Random, blindly: Mutate) -> bytes:
    data = blindly(data)
    return _with_sums(data) if rng.random() < 0.8 else data


def _with_sums(data: bytes) -> bytes:
    """Returns the stream with valid sums of its header, first block's header, index and footer."""
    out = bytearray(data)
    if len(out) < 32:
        return data
    out[8:12] = _crc(out[6:8])
    size = (out[12] + 1) * 4
    if 4 < size <= len(out) - 12:
        out[12 + size - 4 : 12 + size] = _crc(out[12 : 12 + size - 4])
    out[-12:-8] = _crc(out[-8:-2])
    index = (int.from_bytes(out[-8:-4], "little") + 1) * 4
    if 4 < index < len(out) - 24:
        out[-16:-12] = _crc(out[-12 - index : -16])
    return bytes(out)


def _crc(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


TARGETS = tuple(
    Target(
        kind.value,
        partial(check, kind),
        partial(seeds, kind),
        mutate_xz if kind is Compression.XZ else None,
    )
    for kind in _PACKERS
)
