"""The decompressed size of an xz file, from the indexes at the end of its streams. Pure.

xz-file-format.txt, version 1.2.1: a file is a sequence of streams with padding. Each stream ends
with an index, which lists the sizes of its blocks, and a footer with the index's length (2.1.2, 4).
"""

from collections.abc import Callable

from airside.archive.tar.codecs import xz_number

ReadAt = Callable[[int, int], bytes]
"""Reads a count of bytes (first) at an offset of the file (second); fewer at its end."""

_FOOTER_BYTES = _HEADER_BYTES = 12
_STREAMS = 10_000
_PADDING_WORDS = 10_000
_INDEX_BYTES = 16 * 1024**2


def xz_content_bytes(read: ReadAt, size_bytes: int) -> int | None:
    """Returns the decompressed size of the file in bytes; None if no valid index is at its end.

    Damage is not reported here: the decoder reports it with its position.
    """
    total, end = 0, size_bytes
    try:
        for _ in range(_STREAMS):
            end = _before_padding(read, end)
            if end == 0:
                return total
            content, end = _stream_before(read, end)
            total += content
    except (IndexError, ValueError):
        return None
    return None


def _before_padding(read: ReadAt, end: int) -> int:
    for _ in range(_PADDING_WORDS):
        if end < 4 or read(4, end - 4) != bytes(4):
            return end
        end -= 4
    raise ValueError("too much padding")


def _stream_before(read: ReadAt, end: int) -> tuple[int, int]:
    """Returns (decompressed bytes, start) of the stream that ends at `end`.

    Raises ValueError, IndexError.
    """
    footer = read(_FOOTER_BYTES, end - _FOOTER_BYTES) if end >= _FOOTER_BYTES else b""
    if footer[10:] != b"YZ":
        raise ValueError("no footer")
    index_bytes = (int.from_bytes(footer[4:8], "little") + 1) * 4
    start = end - _FOOTER_BYTES - index_bytes
    if start < _HEADER_BYTES or index_bytes > _INDEX_BYTES:
        raise ValueError("no index")
    index = read(index_bytes, start)
    count, at = xz_number(index, 1)
    content = blocks = 0
    for _ in range(count):
        unpadded, at = xz_number(index, at)
        size, at = xz_number(index, at)
        blocks += unpadded + -unpadded % 4
        content += size
    return content, start - blocks - _HEADER_BYTES
