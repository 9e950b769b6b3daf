"""Walks the headers of a tar, with the extended headers before them, and of tars that follow. Pure.

`reader` says what always holds. Positions are bytes from the beginning of the file.
"""

import re
import tarfile
from dataclasses import replace
from typing import Protocol

from airside.archive.tar.compression import compression_name
from airside.archive.tar.members import (
    Member,
    is_tar_header,
    member_of,
    name_text,
    over_limit,
    parse_pax,
)
from airside.core.errors import (
    ArchiveError,
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
)
from airside.core.settings import MIB, Limits

BLOCK = 512
_ZERO_BLOCK = bytes(BLOCK)
_EXTENDED_BYTES = MIB
_PADDING_BYTES = MIB
"""Zeros after the end of a tar behind which another is looked for; `tar` writes up to 10 KiB."""
_EXTENDED_HEADERS = 16
"""Extended headers before one member; real archives have up to four."""


class MissingEndError(ArchiveTruncatedError):
    """The archive ends after a whole member, but without the two zero blocks that end a tar."""


class TarBytes(Protocol):
    position: int

    def read(self, count: int) -> bytes: ...
    def skip(self, count: int) -> int: ...


def cut_at(where: str, end: int, missing: int, member: str | None = None) -> ArchiveTruncatedError:
    return ArchiveTruncatedError(
        f"the archive ends at byte {end}, {where}; at least {missing} bytes are missing",
        member=member,
        offset=end,
    )


def joined_prefix(number: int) -> str:
    """Returns the beginning of the names of members of a further tar in one file."""
    return f"tar {number}//"


def _of_tar(member: Member, number: int) -> Member:
    prefix = joined_prefix(number)
    target = prefix + member.target if member.target else ""
    return replace(member, name=prefix + member.name, target=target)


class Headers:
    """Reads headers, with the extended headers before them, until the end of the tar."""

    def __init__(self, source: TarBytes, limits: Limits, notes: list[str]) -> None:
        self._source = source
        self._limits = limits
        self._notes = notes
        self._count = self._text_bytes = 0
        self._last = ""
        self._global: dict[str, str] = {}
        self._number = 1
        self._first_block = b""
        self.rest = b""
        """The first block after the last tar that is not zero, and no header."""

    def find_next_tar(self) -> bool:
        """Skip the zeros after the end of a tar; returns True if the header of another follows.

        At most `_PADDING_BYTES` of zeros are skipped.
        """
        for _ in range(_PADDING_BYTES // BLOCK):
            block = self._source.read(BLOCK)
            if block.strip(b"\0"):
                if len(block) == BLOCK and is_tar_header(block):
                    self._first_block, self._global, self._last = block, {}, ""
                    self._number += 1
                    return True
                self.rest = block
                return False
            if len(block) < BLOCK:
                return False
        return False

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
                if member is not None and self._number > 1:
                    member = _of_tar(member, self._number)
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
            start = self._source.position - len(self._first_block)
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
        block, self._first_block = self._first_block or self._source.read(BLOCK), b""
        if not block and start and not inside:
            raise MissingEndError(
                f"the archive ends at byte {start}, after {self._count} members, "
                "without the zero blocks that end a tar",
                offset=start,
            )
        if len(block) < BLOCK:
            raise self._cut_header(block, start)
        if block != _ZERO_BLOCK:
            return block
        if inside:
            raise ArchiveFormatError(f"an extended header before byte {start} has no member")
        self._read_second_zero_block()
        return None

    def _read_second_zero_block(self) -> None:
        start = self._source.position
        block = self._source.read(BLOCK)
        if not block:
            self._notes.append("the tar ends with one zero block instead of two")
        elif block.strip(b"\0"):
            raise ArchiveFormatError(
                f"a zero block at byte {start - BLOCK} is followed by other data: "
                "the archive is damaged",
                offset=start,
            )
        elif len(block) < BLOCK:
            raise self._cut_header(block, start)

    def _cut_header(self, block: bytes, start: int) -> ArchiveError:
        if not block and not start:
            return ArchiveTruncatedError("the archive is empty", offset=0)
        if not start and (found := _looks_like(block)):
            return _not_a_tar(found)
        where = f"in the header after {self._last!r}" if self._last else "in its first header"
        return cut_at(where, start + len(block), BLOCK - len(block))

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
        padded = info.size + -info.size % BLOCK
        data = self._source.read(padded)
        if len(data) < padded:
            raise cut_at("in an extended header", self._source.position, padded - len(data))
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
