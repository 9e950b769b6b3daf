"""Bytes that come in chunks, read as one stream: what frames and tar headers are parsed from.

No I/O of its own, no decision about formats.
"""

from collections.abc import Iterable

from airside.core.errors import ArchiveTruncatedError
from airside.core.settings import CHUNK_BYTES


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


def truncated(name: str, source: ByteSource) -> ArchiveTruncatedError:
    end = source.position + len(source.peek(CHUNK_BYTES))
    return ArchiveTruncatedError(
        f"the {name} data ends early, after {end} bytes; at least one more is missing", offset=end
    )


def read_exactly(source: ByteSource, count: int, name: str) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise truncated(name, source)
    return data
