"""Reads chunks of bytes as one stream, from which frames and tar headers are parsed.

No I/O of its own, no decision about formats.
"""

from collections.abc import Iterable

from airside.core.errors import ArchiveTruncatedError
from airside.core.settings import CHUNK_BYTES


class ByteSource:
    """Byte chunks read as one stream. `position` is in bytes. Not thread-safe."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._start = 0
        self.position = 0

    def peek(self, count: int) -> bytes:
        """Returns the next `count` bytes without consuming them; fewer only at the end."""
        while len(self._buffer) - self._start < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._buffer = self._buffer[self._start :] + chunk
            self._start = 0
        return self._buffer[self._start : self._start + count]

    def take(self, limit: int) -> memoryview:
        """Consume at most `limit` bytes, not copied; returns none only at the end."""
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

    def put_back(self, count: int) -> None:
        """Put back the last `count` bytes of the last `take`."""
        self._start -= count
        self.position -= count

    def read(self, count: int) -> bytes:
        """Consume exactly `count` bytes; returns fewer only at the end."""
        data = self.peek(count)
        self._start += len(data)
        self.position += len(data)
        return data

    def skip(self, count: int) -> int:
        """Skip bytes; returns the number skipped, less than `count` only at the end."""
        left = count
        while left and (piece := self.take(left)):
            left -= len(piece)
        return count - left


def truncated(name: str, source: ByteSource) -> ArchiveTruncatedError:
    """Returns the error for compressed data that ends inside a frame; reads the rest of it."""
    end = source.position + len(source.peek(CHUNK_BYTES))
    return ArchiveTruncatedError(
        f"the {name} data ends early, after {end} bytes; at least one more is missing", offset=end
    )


def read_exactly(source: ByteSource, count: int, name: str) -> bytes:
    """Consume exactly `count` bytes. Raises ArchiveTruncatedError that names the compression."""
    data = source.read(count)
    if len(data) < count:
        raise truncated(name, source)
    return data
