"""Reads tar safely: the members of an archive in order, or the reason why it is refused.

Headers are decoded by `tarfile.TarInfo.frombuf`. The walk over them is ours, since `tarfile` ends
without an error on damaged and truncated headers (ADR 0003). What always holds:

- every header's checksum is checked; a damaged header is an error, never the end;
- an end inside a header, a member or its padding is ArchiveTruncatedError; an end between members
  without the two zero blocks is MissingEndError, which a caller may accept if nothing is missing;
- a member is a file, a directory, a symlink or a hard link, with a name and target inside the
  archive; all else is refused with its name, and nothing is ever written to disk here;
- memory does not grow with the archive while streaming;
- a further tar behind the end, as `cat` joins them, is read too: the names of its members begin
  with `tar 2//`, as no member's name does. What else follows is told.

Supported: v7, ustar, pax (path, linkpath, size) and GNU (long names, base-256 sizes). Two members
may have the same name: the caller decides which of them counts, and checks their contents.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from airside.archive.tar.archive_file import ArchiveFile, read_at, size_of
from airside.archive.tar.byte_source import ByteSource
from airside.archive.tar.compression import TrailingBytesError, compression_name
from airside.archive.tar.headers import BLOCK, Headers, MissingEndError, TarBytes, cut_at
from airside.archive.tar.members import Member
from airside.core.errors import ArchiveError, ArchiveTruncatedError, ArchiveUnreadableError
from airside.core.settings import CHUNK_BYTES, MIB, Limits


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of scanning the headers of a seekable tar.

    `members` are the complete ones. `ended` is true if the end blocks of the tar were found.
    `truncated` is the message if the file ends inside a member or header. It is None, with `ended`
    false, if the file ends between two members. `left`: what of other archives follows.
    """

    members: list[Member]
    ended: bool
    truncated: str | None = None
    left: tuple[str, ...] = ()


def iter_members(
    chunks: Iterable[bytes], *, limits: Limits, notes: list[str], left: list[str] | None = None
) -> Iterator[tuple[Member, Iterator[memoryview]]]:
    """Yields each member with its content, in slices of at most CHUNK_BYTES that are not copied.

    The unread rest of a content is skipped when the next member is requested; reading the old
    content then raises RuntimeError. `chunks` is drained at the end, so that the checksum at the
    end of compressed data is checked once the iteration is over. `left` gets what of other archives
    follows and is not read. Raises ArchiveError, with `member`; MissingEndError only after all
    members were yielded.
    """
    source = ByteSource(chunks)
    headers = Headers(source, limits, notes)
    while True:
        while (member := headers.next_member()) is not None:
            content = _Content(source, member)
            yield member, content
            content.close()
            _skip_padding(source, member)
        try:
            if headers.find_next_tar():
                continue
            _note_rest(iter(lambda: source.take(CHUNK_BYTES), b""), headers.rest, notes, left)
        except TrailingBytesError as exc:
            (left if left is not None and exc.context.get("archive") else notes).append(exc.message)
        return


def scan_members(file: ArchiveFile, *, limits: Limits, notes: list[str]) -> Scan:
    """Read the headers of a seekable plain tar, with `os.pread`; contents are skipped.

    For a tar that ends early, returns the members that are complete. Raises the other
    ArchiveErrors, and ArchiveUnreadableError if the file cannot be read.
    """
    source = _FileSource(file)
    headers = Headers(source, limits, notes)
    members: list[Member] = []
    left: list[str] = []
    try:
        while True:
            while (member := headers.next_member()) is not None:
                offset = source.position
                missing = member.size_bytes - source.skip(member.size_bytes)
                if missing:
                    raise cut_at(f"in {member.name!r}", source.position, missing, member.name)
                members.append(replace(member, offset=offset))
                _skip_padding(source, member)
            if not headers.find_next_tar():
                break
    except MissingEndError:
        return Scan(members, ended=False)
    except ArchiveTruncatedError as exc:
        return Scan(members, ended=False, truncated=exc.message)
    _note_rest(iter([source.read(MIB)]), headers.rest, notes, left)
    return Scan(members, ended=True, left=tuple(left))


# Bytes


class _FileSource:
    """A seekable file read with `os.pread`, which does not move its offset."""

    def __init__(self, file: ArchiveFile) -> None:
        self._file = file
        self._size_bytes = size_of(file)
        self.position = 0

    def read(self, count: int) -> bytes:
        data = b""
        try:
            while part := read_at(self._file, count - len(data), self.position):
                data += part
                self.position += len(part)
        except OSError as exc:
            raise ArchiveUnreadableError(
                f"the archive cannot be read at byte {self.position}: {exc.strerror}"
            ) from exc
        return data

    def skip(self, count: int) -> int:
        skipped = min(count, max(self._size_bytes - self.position, 0))
        self.position += skipped
        return skipped


class _Content:
    """The content of one member of a stream."""

    def __init__(self, source: ByteSource, member: Member) -> None:
        self._source = source
        self._member = member
        self._left_bytes = member.size_bytes
        self._closed = False

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        if not self._left_bytes:
            raise StopIteration
        if self._closed:
            raise RuntimeError(f"the content of {self._member.name!r} was skipped")
        try:
            piece = self._source.take(min(self._left_bytes, CHUNK_BYTES))
        except ArchiveError as exc:
            exc.add_context(member=self._member.name)
            raise
        if not piece:
            name = self._member.name
            raise cut_at(f"in {name!r}", self._source.position, self._left_bytes, name)
        self._left_bytes -= len(piece)
        return piece

    def close(self) -> None:
        """Skip the unread rest."""
        unread = self._left_bytes
        for _ in self:
            pass
        self._left_bytes, self._closed = unread, True


def _skip_padding(source: TarBytes, member: Member) -> None:
    padding = -member.size_bytes % BLOCK
    missing = padding - source.skip(padding)
    if missing:
        where = f"in the padding after {member.name!r}"
        raise cut_at(where, source.position, missing, member.name)


def _note_rest(
    pieces: Iterable[bytes | memoryview], first: bytes, notes: list[str], left: list[str] | None
) -> None:
    """Read the bytes after the end: zeros fill the last record, other bytes get one note.

    `first` is the first block that is not zero, if it was read already.
    """
    found = compression_name(first) if left is not None else None
    if left is not None and found:
        left.append(f"{found} data follows the end of the tar")
    noted = bool(found)
    for piece in chain([first], pieces):
        if not noted and bytes(piece).strip(b"\0"):
            notes.append("other bytes follow the end of the tar; they were ignored")
            noted = True
