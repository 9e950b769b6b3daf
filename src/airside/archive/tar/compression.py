"""Detects the compression of a file and decompresses it in bounded memory.

`_SIGNATURES` has the compressions that are recognised, `tar.codecs` those that are read. A
compressed file is a sequence of *frames* (gzip calls them members, xz and bzip2 streams):

- a frame that ends early: ArchiveTruncatedError;
- zero bytes after the last frame: accepted with a note;
- other bytes after the last frame: TrailingBytesError, after all data was yielded, so that the
  reader of the tar decides;
- damaged data: ArchiveFormatError; an exceeded limit: ArchiveLimitError.

Decoders are driven by `eof` and `unused_data`, because the file classes of the libraries do not
distinguish truncation from trailing bytes, and lose data if a later frame is damaged. No I/O here;
the caller opens and closes files.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airside.archive.stop import Stop, never
from airside.archive.tar.byte_source import ByteSource, truncated
from airside.archive.tar.codecs import (
    CODECS,
    SKIPPABLE,
    Codec,
    Compression,
    Decoder,
    lz4_content_bytes,
)
from airside.archive.tar.members import is_tar_header
from airside.archive.tar.window_budget import Reservation, WindowBudget
from airside.archive.tar.xz_index import ReadAt, xz_content_bytes
from airside.core.errors import (
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
)
from airside.core.settings import CHUNK_BYTES, GIB, KIB, Limits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ByteSource", "Compression", "compression_name", "detect_compression"]

RATIO_FREE_BYTES = GIB
"""`limits.ratio` applies only to output beyond this size."""
_MAGIC_BYTES = 16
_BLOCK_BYTES = 512
_FIRST_FEED_BYTES = 4 * KIB
_FEED_BYTES = 512 * KIB


class TrailingBytesError(ArchiveFormatError):
    """Bytes that belong to no frame follow the compressed data; all of the data was yielded."""


# Recognising


@dataclass(frozen=True, slots=True)
class _Signature:
    name: str
    pattern: bytes
    compression: Compression | None = None
    hint: str = "decompress it, or compress it again with zstd or gzip"


_UNPACK = "unpack it: images are read from tar archives, plain or compressed"
_SIGNATURES = (
    _Signature("gzip", rb"\x1f\x8b", Compression.GZIP),
    _Signature("zstd", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", Compression.ZSTD),
    _Signature("zstd before version 0.8", rb"[\x1e\x22-\x27]\xb5\x2f\xfd"),
    _Signature("xz", rb"\xfd7zXZ\x00", Compression.XZ),
    _Signature("bzip2", rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", Compression.BZIP2),
    _Signature("lz4", rb"\x04\x22\x4d\x18", Compression.LZ4),
    _Signature("lz4 (the legacy frame)", rb"\x02\x21\x4c\x18"),
    # properties, a dictionary of 64 KiB or more, then a size that is unknown or below 2^56
    _Signature("lzma", rb"\x5d\x00\x00(?!\x00\x00)..(\xff{8}|.{7}\x00)"),
    _Signature("compress (.Z)", rb"\x1f[\x9d\xa0]"),
    _Signature("lzip", rb"LZIP\x01"),
    _Signature("zip", rb"PK(\x03\x04|\x05\x06|\x07\x08)", hint=_UNPACK),
    _Signature("7z", rb"7z\xbc\xaf\x27\x1c", hint=_UNPACK),
    _Signature("rar", rb"Rar!\x1a\x07", hint=_UNPACK),
)


def _signature_of(head: bytes) -> _Signature | None:
    """Returns the signature of the first bytes; skips frames without data, as zstd and lz4 have."""
    rest = head
    while rest[:4] in SKIPPABLE and len(rest) > 8:
        rest = rest[8 + int.from_bytes(rest[4:8], "little") :]
    if rest[:4] == b"\x04\x22\x4d\x18":
        head = rest
    return next((s for s in _SIGNATURES if re.match(s.pattern, head, re.DOTALL)), None)


def compression_name(head: bytes) -> str | None:
    """Returns the name of the compression of these first bytes, also of one that is not read."""
    signature = _signature_of(head)
    return signature.name if signature else None


def detect_compression(head: bytes) -> Compression:
    """Detect the compression by the first bytes (16 are enough); NONE if none is recognised.

    Raises ArchiveFormatError, with the name of the format, for one that is recognised but not read.
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


def content_bytes(
    head: bytes, compression: Compression, read: ReadAt, size_bytes: int
) -> int | None:
    """Returns the least decompressed size of a file of `size_bytes`, in bytes; None if unknown.

    For xz the size is exact. For zstd and lz4 it is the size of the first frame, if its header has
    one. gzip and bzip2 have no such field.
    """
    if compression is Compression.XZ:
        return xz_content_bytes(read, size_bytes)
    if compression is Compression.LZ4:
        return lz4_content_bytes(head)
    if compression is not Compression.ZSTD:
        return None
    try:
        return zstd.get_frame_info(head).decompressed_size
    except zstd.ZstdError:
        return None  # damaged: the decoder reports it with its position


# Frames


def iter_decompressed(
    chunks: Iterable[bytes],
    compression: Compression,
    *,
    limits: Limits,
    windows: WindowBudget,
    notes: list[str],
    stop: Stop = never,
    twice: bool = False,
) -> Iterator[bytes]:
    """Yields the decompressed bytes in chunks of at most CHUNK_BYTES.

    `twice`: decompress also what is gzip within another compression, or another within gzip, as
    servers and scripts make it; with a note.

    Close the iterator (or exhaust it) to release its share of `windows`; `stop` ends a wait for
    that share. Raises ArchiveTruncatedError, ArchiveFormatError, ArchiveLimitError, StoppedError,
    and TrailingBytesError after the last chunk.
    """
    source = ByteSource(chunks)
    if compression is Compression.NONE:
        yield from _limited(_iter_plain(source), source, limits)
        return
    codec = CODECS[compression]
    with windows.reserve(stop=stop) as reservation:
        parts = _limited(_iter_frames(codec, source, limits, reservation, notes), source, limits)
        if not twice:
            yield from parts
            return
        inner = ByteSource(parts)
        second = _compression_inside(inner, compression)
        if second is None:
            yield from _iter_plain(inner)
            return
        notes.append(f"the archive is compressed twice: {second.value} in {compression.value}")
        frames = _iter_frames(CODECS[second], inner, limits, reservation, notes)
        yield from _limited(frames, inner, limits)


def _compression_inside(source: ByteSource, outer: Compression) -> Compression | None:
    """Returns the compression of decompressed bytes, if one of both is gzip: its window is small.

    The reservation is then that of the other one.
    """
    signature = _signature_of(bytes(source.peek(_MAGIC_BYTES)))
    inner = signature.compression if signature else None
    return inner if Compression.GZIP in {inner, outer} else None


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
        f"the archive decompresses to {what}; raise {limit} if you trust the archive", limit=limit
    )


def _iter_frames(
    codec: Codec,
    source: ByteSource,
    limits: Limits,
    reservation: Reservation,
    notes: list[str],
) -> Iterator[bytes]:
    if not _at_frame(codec, source):
        if not source.peek(1):
            raise ArchiveTruncatedError(f"the {codec.name} file is empty", offset=0)
        raise ArchiveFormatError(f"the file does not begin with a {codec.name} frame", offset=0)
    more = True
    while more:
        frame = codec.begin(source, limits)
        if frame is not None:
            reservation.grow(frame.window_bytes)
            yield from _iter_frame(codec, frame.open(), source)
        more = _to_next_frame(codec, source, notes)


def _to_next_frame(codec: Codec, source: ByteSource, notes: list[str]) -> bool:
    """Skip padding; returns False at the end. Raises TrailingBytesError for what is no frame."""
    end = source.position
    zeros = _skip_zeros(source)
    if not source.peek(1):
        if zeros:
            notes.append(f"{zeros} zero bytes follow the {codec.name} data")
        return False
    is_padding = codec.padding_bytes and zeros % codec.padding_bytes == 0
    if (is_padding or not zeros) and _at_frame(codec, source):
        return True
    head = source.peek(_BLOCK_BYTES)
    found = "a tar" if is_tar_header(head) else compression_name(head)
    raise TrailingBytesError(
        f"{f'{found} archive' if found else 'other bytes'} follow{'s' if found else ''} the "
        f"{codec.name} data, which ends at byte {end}",
        offset=end,
        archive=found,
    )


def _skip_zeros(source: ByteSource) -> int:
    """Consume zero bytes; returns their number."""
    count = 0
    while piece := source.take(CHUNK_BYTES):
        left = len(bytes(piece).lstrip(b"\0"))
        count += len(piece) - left
        if left:
            source.put_back(left)
            break
    return count


def _at_frame(codec: Codec, source: ByteSource) -> bool:
    """Returns True if a frame begins here. Raises ArchiveTruncatedError inside a magic number."""
    head = source.peek(len(codec.magics[0]))
    if head in codec.magics:
        return True
    if head and any(magic.startswith(head) for magic in codec.magics):
        raise truncated(codec.name, source)
    return False


def _iter_frame(codec: Codec, decoder: Decoder, source: ByteSource) -> Iterator[bytes]:
    """Decode one frame. Feeds little at first, since decoders copy the rest after a tiny frame."""
    feed_bytes = _FIRST_FEED_BYTES
    while not decoder.eof:
        piece = source.take(feed_bytes) if decoder.needs_input else memoryview(b"")
        if not piece and decoder.needs_input:
            raise truncated(codec.name, source)
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
    source.put_back(len(decoder.unused_data))
