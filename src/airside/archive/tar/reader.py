"""Reads tar safely: the members of an archive in order, or the reason why it is refused.

Headers are decoded by `tarfile.TarInfo.frombuf`. The walk over them is ours, since `tarfile` ends
without an error on damaged and truncated headers (ADR 0003). What always holds:

- every header's checksum is checked; a damaged header is an error, never the end;
- an end inside a header, a member or its padding is ArchiveTruncatedError; an end between members
  without the two zero blocks is MissingEndError, which a caller may accept if nothing is missing;
- a member is a file, a directory, a symlink or a hard link, with a name and target inside the
  archive; all else is refused with its name, and nothing is ever written to disk here;
- memory does not grow with the archive while streaming.

Supported: v7, ustar, pax (path, linkpath, size) and GNU (long names, base-256 sizes). Two members
may have the same name: the caller decides which of them counts, and checks their contents.
"""

import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from airside.archive.tar.byte_source import ByteSource
from airside.archive.tar.compression import TrailingBytesError, compression_name
from airside.archive.tar.members import Member, member_of, name_text, over_limit, parse_pax
from airside.core.errors import (
    ArchiveError,
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    ArchiveUnreadableError,
)
from airside.core.settings import CHUNK_BYTES, MIB, Limits

_BLOCK = 512
_ZERO_BLOCK = bytes(_BLOCK)
_EXTENDED_BYTES = MIB
_EXTENDED_HEADERS = 16
"""Extended headers before one member; real archives have up to four."""


class MissingEndError(ArchiveTruncatedError):
    """The archive ends after a whole member, but without the two zero blocks that end a tar."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of scanning the headers of a seekable tar.

    `members` are the complete ones. `ended` is true if the end blocks of the tar were found.
    `truncated` is the message if the file ends inside a member or header. It is None, with `ended`
    false, if the file ends between two members.
    """

    members: list[Member]
    ended: bool
    truncated: str | None = None


def iter_members(
    chunks: Iterable[bytes], *, limits: Limits, notes: list[str]
) -> Iterator[tuple[Member, Iterator[memoryview]]]:
    """Yields each member with its content, in slices of at most CHUNK_BYTES that are not copied.

    The unread rest of a content is skipped when the next member is requested; reading the old
    content then raises RuntimeError. `chunks` is drained at the end, so that the checksum at the
    end of compressed data is checked once the iteration is over. Raises ArchiveError, with
    `member`; MissingEndError only after all members were yielded.
    """
    source = ByteSource(chunks)
    headers = _Headers(source, limits, notes)
    while (member := headers.next_member()) is not None:
        content = _Content(source, member)
        yield member, content
        content.close()
        _skip_padding(source, member)
    try:
        _note_rest(iter(lambda: source.take(CHUNK_BYTES), b""), notes)
    except TrailingBytesError as exc:
        notes.append(exc.message)


def scan_members(file: BinaryIO, *, limits: Limits, notes: list[str]) -> Scan:
    """Read the headers of a seekable plain tar, with `os.pread`; contents are skipped.

    For a tar that ends early, returns the members that are complete. Raises the other
    ArchiveErrors, and ArchiveUnreadableError if the file cannot be read.
    """
    source = _FileSource(file)
    headers = _Headers(source, limits, notes)
    members: list[Member] = []
    try:
        while (member := headers.next_member()) is not None:
            offset = source.position
            missing = member.size_bytes - source.skip(member.size_bytes)
            if missing:
                raise _cut(f"in {member.name!r}", source.position, missing, member.name)
            members.append(replace(member, offset=offset))
            _skip_padding(source, member)
    except MissingEndError:
        return Scan(members, ended=False)
    except ArchiveTruncatedError as exc:
        return Scan(members, ended=False, truncated=exc.message)
    _note_rest(iter([source.read(MIB)]), notes)
    return Scan(members, ended=True)


# Bytes


class _Source(Protocol):
    position: int

    def read(self, count: int) -> bytes: ...
    def skip(self, count: int) -> int: ...


class _FileSource:
    """A seekable file read with `os.pread`, which does not move its offset."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._size_bytes = os.fstat(self._descriptor).st_size
        self.position = 0

    def read(self, count: int) -> bytes:
        data = b""
        try:
            while part := os.pread(self._descriptor, count - len(data), self.position):
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
            raise _cut(f"in {name!r}", self._source.position, self._left_bytes, name)
        self._left_bytes -= len(piece)
        return piece

    def close(self) -> None:
        """Skip the unread rest."""
        unread = self._left_bytes
        for _ in self:
            pass
        self._left_bytes, self._closed = unread, True


def _skip_padding(source: _Source, member: Member) -> None:
    padding = -member.size_bytes % _BLOCK
    missing = padding - source.skip(padding)
    if missing:
        where = f"in the padding after {member.name!r}"
        raise _cut(where, source.position, missing, member.name)


def _cut(where: str, end: int, missing: int, member: str | None = None) -> ArchiveTruncatedError:
    return ArchiveTruncatedError(
        f"the archive ends at byte {end}, {where}; at least {missing} bytes are missing",
        member=member,
        offset=end,
    )


def _note_rest(pieces: Iterable[bytes | memoryview], notes: list[str]) -> None:
    """Read the bytes after the end: zeros fill the last record, other bytes get one note."""
    noted = False
    for piece in pieces:
        if not noted and bytes(piece).strip(b"\0"):
            notes.append("other bytes follow the end of the tar; they were ignored")
            noted = True


# Headers


class _Headers:
    """Reads headers, with the extended headers before them, until the end of the tar."""

    def __init__(self, source: _Source, limits: Limits, notes: list[str]) -> None:
        self._source = source
        self._limits = limits
        self._notes = notes
        self._count = self._text_bytes = 0
        self._last = ""
        self._global: dict[str, str] = {}

    def next_member(self) -> Member | None:
        """Returns the next member, whose content follows in the source; None after the end blocks.

        Raises ArchiveError, with the last complete member as `after`.
        """
        try:
            while (found := self._next_header()) is not None:
                self._count += 1
                if self._count > self._limits.members:
                    raise over_limit("the archive has more members", "members", self._limits)
                member = member_of(*found, self._limits)
                if member is not None:
                    self._take_text(len(member.name) + len(member.target))
                    self._last = member.name
                    return member
        except ArchiveError as exc:
            if self._last and "member" not in exc.context:
                exc.add_context(after=self._last)
            raise
        return None

    def _next_header(self) -> tuple[tarfile.TarInfo, dict[str, str]] | None:
        """Returns a member's header and the values of its extended headers; None at the end."""
        extended: dict[str, str] = {}
        for count in range(_EXTENDED_HEADERS + 1):
            start = self._source.position
            block = self._read_block(start, inside=count > 0)
            if block is None:
                return None
            info = _parse_header(block, start)
            if info.type in {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}:
                key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                extended[key] = self._read_long_name(info)
            elif info.type in {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}:
                extended |= parse_pax(self._read_extended(info, _EXTENDED_BYTES))
            elif info.type == tarfile.XGLTYPE:
                self._global |= parse_pax(self._read_extended(info, _EXTENDED_BYTES))
            else:
                return info, self._global | extended
        raise ArchiveFormatError(
            f"more than {_EXTENDED_HEADERS} extended headers precede byte {start}"
        )

    def _read_block(self, start: int, *, inside: bool) -> bytes | None:
        """Returns the next header block; None at the end of the tar.

        `inside` is true after an extended header, which must have a member.
        """
        block = self._source.read(_BLOCK)
        if not block and start and not inside:
            raise MissingEndError(
                f"the archive ends at byte {start}, after {self._count} members, "
                "without the zero blocks that end a tar",
                offset=start,
            )
        if len(block) < _BLOCK:
            raise self._cut_header(block, start)
        if block != _ZERO_BLOCK:
            return block
        if inside:
            raise ArchiveFormatError(f"an extended header before byte {start} has no member")
        self._read_second_zero_block()
        return None

    def _read_second_zero_block(self) -> None:
        start = self._source.position
        block = self._source.read(_BLOCK)
        if not block:
            self._notes.append("the tar ends with one zero block instead of two")
        elif block.strip(b"\0"):
            raise ArchiveFormatError(
                f"a zero block at byte {start - _BLOCK} is followed by other data: "
                "the archive is damaged",
                offset=start,
            )
        elif len(block) < _BLOCK:
            raise self._cut_header(block, start)

    def _cut_header(self, block: bytes, start: int) -> ArchiveError:
        if not block and not start:
            return ArchiveTruncatedError("the archive is empty", offset=0)
        if not start and (found := _looks_like(block)):
            return _not_a_tar(found)
        where = f"in the header after {self._last!r}" if self._last else "in its first header"
        return _cut(where, start + len(block), _BLOCK - len(block))

    def _read_long_name(self, info: tarfile.TarInfo) -> str:
        if info.size > self._limits.name_bytes + 1:
            raise over_limit("a member's name is longer", "name_bytes", self._limits)
        return name_text(self._read_extended(info, info.size).rstrip(b"\0"))

    def _take_text(self, count: int) -> None:
        """Counts names, which stay in memory, and extended headers, which take time to parse."""
        self._text_bytes += count
        if self._text_bytes > self._limits.headers_bytes:
            what = "the names and extended headers of the archive have more bytes"
            raise over_limit(what, "headers_bytes", self._limits)

    def _read_extended(self, info: tarfile.TarInfo, limit_bytes: int) -> bytes:
        start = self._source.position
        if info.size > limit_bytes:
            raise ArchiveLimitError(
                f"an extended header before byte {start} has {info.size} bytes; at most "
                f"{limit_bytes} are allowed"
            )
        self._take_text(info.size)
        padded = info.size + -info.size % _BLOCK
        data = self._source.read(padded)
        if len(data) < padded:
            raise _cut("in an extended header", self._source.position, padded - len(data))
        return data[: info.size]


_SIZE_FIELD = re.compile(rb"[ \0]*[0-7]*[ \0]*|[\x80\xff].*", re.DOTALL)
_USTAR = b"ustar\x00"


def _parse_header(block: bytes, start: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as exc:
        if not start and block[257:262] != _USTAR[:5]:
            raise _not_a_tar(_looks_like(block) or f"the bytes {block[:8].hex(' ')}") from exc
        raise ArchiveFormatError(
            f"the tar header at byte {start} is damaged: {exc}", offset=start
        ) from exc
    if not _SIZE_FIELD.fullmatch(block[124:136]) or info.size < 0:
        raise ArchiveFormatError(
            f"the tar header at byte {start} has no valid size", member=info.name, offset=start
        )
    if block[257:263] != _USTAR:  # only POSIX has a prefix field; old GNU tar has times there
        info.name = block[:100].split(b"\0")[0].decode("utf-8", "surrogateescape")
    return info


_OTHER_FORMATS = (
    ("an ELF program", re.compile(rb"\x7fELF")),
    ("an HTML page", re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)),
    ("an XML document", re.compile(rb"\s*<\?xml")),
    ("JSON", re.compile(rb"\s*[\[{][\s\"{\[]")),
    ("a PDF document", re.compile(rb"%PDF")),
    ("a cpio archive", re.compile(rb"0707(07|01|02)|\xc7\x71|\x71\xc7")),
    ("a squashfs image", re.compile(rb"hsqs")),
    ("an ar archive or Debian package", re.compile(rb"!<arch>")),
    ("an RPM package", re.compile(rb"\xed\xab\xee\xdb")),
    ("an SQLite database", re.compile(rb"SQLite format 3")),
    ("a program text", re.compile(rb"#!")),
)


def _looks_like(head: bytes) -> str | None:
    compression = compression_name(head)
    if compression:
        return f"{compression} data"
    return next((name for name, pattern in _OTHER_FORMATS if pattern.match(head)), None)


def _not_a_tar(found: str) -> ArchiveFormatError:
    return ArchiveFormatError(f"the file is not a tar archive (found {found})", found=found)
