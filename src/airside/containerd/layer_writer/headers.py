"""Reads the headers of a tar as Go's `archive/tar` reads them, which containerd uses.

What Go reads in its own way (GNU sparse members, global PAX headers, old formats, sizes at
members without data) raises UnusualLayerError; what no reader accepts raises LayerRefusedError.
"""

import functools
import os
import zlib
from collections.abc import Iterator

from airside.containerd.layer_writer.extensions import LONG_LINK, LONG_NAME, PAX, Extensions
from airside.containerd.layer_writer.member import BLOCK, CHARACTER, FIFO, FILE, LINK, Member
from airside.containerd.layer_writer.target import LayerLimits
from airside.core.errors import LayerRefusedError, UnusualLayerError

BLOCK_BYTES = 512
_ZEROS = bytes(BLOCK_BYTES)
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_OLD_FILE = 0
_NS = 1_000_000_000
_LATEST = (1 << 63) - 1
_MOST_MAJOR, _MOST_MINOR = 0xFFF, 0xFFFFF
_MOST_ID = (1 << 32) - 2
"""4294967295 means "leave it" to chown(2)."""


def iter_members(tar: memoryview, limits: LayerLimits) -> Iterator[Member]:
    """Yields the members in their order. Raises LayerRefusedError, UnusualLayerError."""
    position, length = 0, len(tar)
    extensions: Extensions | None = None
    while position < length:
        header = tar[position : position + BLOCK_BYTES].tobytes()
        if header == _ZEROS:
            _check_end(tar, position)
            break
        _check_sum(header)
        kind, size = header[156], number(header[124:136])
        position += BLOCK_BYTES
        if kind in (PAX, LONG_NAME, LONG_LINK):
            extensions = extensions or Extensions()
            _read_extension(extensions, kind, tar[position : position + size], size, limits)
        else:
            member = _member(header, kind, extensions)
            member.data, extensions = position, None
            size = member.size
            if position + size > length:
                raise LayerRefusedError(f"the layer ends within {name_of(member)}")
            yield member
        position += (size + 511) & ~511
    if extensions is not None:
        raise UnusualLayerError("a header at the end, without a member")


def _check_end(tar: memoryview, position: int) -> None:
    """Two blocks of zeros end a tar; what comes behind is ignored."""
    if bytes(tar[position + BLOCK_BYTES : position + 2 * BLOCK_BYTES]).strip(b"\0"):
        raise UnusualLayerError("a block of zeros between members")


def _check_sum(header: bytes) -> None:
    if len(header) < BLOCK_BYTES:
        raise LayerRefusedError("the layer ends within a header")
    stored = number(header[148:156])
    # adler32's lower half is the sum modulo 65521; with 256 zeros the sum is less than that
    whole = header[:148] + b"        " + header[156:]
    found = (zlib.adler32(whole) & 0xFFFF) - 1 if header.count(0) >= 256 else sum(whole)
    if found != stored and sum(whole) - 256 * sum(b > 127 for b in whole) != stored:
        raise LayerRefusedError("the checksum of a header is wrong")


def _read_extension(
    extensions: Extensions, kind: int, data: memoryview, size: int, limits: LayerLimits
) -> None:
    if size > limits.extension_bytes:
        raise LayerRefusedError(f"a header of {size} bytes; {limits.extension_bytes} are allowed")
    if len(data) < size:
        raise LayerRefusedError("the layer ends within a header")
    extensions.add(kind, data.tobytes())


def _member(header: bytes, kind: int, extensions: Extensions | None) -> Member:
    name = _name(header)
    link = header[157:257].partition(b"\0")[0]
    member = Member(kind, name, link)
    member.mode = number(header[100:108]) & 0o7777
    member.uid, member.gid = number(header[108:116]), number(header[116:124])
    member.size = number(header[124:136])
    seconds = number(header[136:148])
    major, minor = number(header[329:337]), number(header[337:345])
    member.mtime = member.atime = seconds * _NS
    if extensions is not None:
        _extend(member, extensions)
    if kind in (CHARACTER, BLOCK):
        if major > _MOST_MAJOR or minor > _MOST_MINOR:
            raise UnusualLayerError(f"a device {major}:{minor}")
        member.device = os.makedev(major, minor)
    _settle(member)
    return member


def _settle(member: Member) -> None:
    """Brings the kind, times and names into the form that `Member` promises."""
    member.mtime = _bounded(member.mtime)
    member.atime = _bounded(member.atime)
    if member.uid > _MOST_ID or member.gid > _MOST_ID:
        raise UnusualLayerError(f"an owner of {member.uid}:{member.gid}")
    if member.kind == _OLD_FILE:
        member.kind = FILE
    if member.kind == FILE:
        if member.path.endswith(b"/"):
            raise UnusualLayerError("a file whose name ends with a slash")
    elif not FILE < member.kind <= FIFO:
        raise UnusualLayerError(f"a member of type {chr(member.kind)!r}")
    elif member.size:
        raise UnusualLayerError("a size at a member without data")
    if member.kind == LINK:
        if b".." in member.link or not member.link or member.link.endswith(b"/"):
            raise UnusualLayerError("the target of a hard link")
        member.link = cleaned(member.link)
    member.path = cleaned(member.path)


def _bounded(time: int) -> int:
    """Apply writes the epoch for what is earlier, or later than 2262."""
    return time if 0 <= time <= _LATEST else 0


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    magic = header[257:265]
    if magic == _USTAR:
        if header[508:512] == b"tar\0":
            raise UnusualLayerError("a member in star's format")
        if header[345]:
            return header[345:500].partition(b"\0")[0] + b"/" + name
    elif magic != _GNU or header[345] or header[357]:
        raise UnusualLayerError("a member in an old format")
    return name


def _extend(member: Member, extensions: Extensions) -> None:
    if extensions.path is not None:
        member.path = extensions.path
    if extensions.link is not None:
        member.link = extensions.link
    if extensions.size is not None:
        member.size = extensions.size
    if extensions.uid is not None:
        member.uid = extensions.uid
    if extensions.gid is not None:
        member.gid = extensions.gid
    if extensions.mtime is not None:
        member.mtime = member.atime = extensions.mtime
    if extensions.atime is not None:  # containerd: the later of the two
        member.atime = max(member.mtime, extensions.atime)
    member.xattrs = extensions.xattrs


@functools.lru_cache(4096)
def number(field: bytes) -> int:
    """Parses a number of a header: octal digits, or GNU's base 256."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise UnusualLayerError("a negative number in a header")
        found = int.from_bytes(field) & ~(1 << (8 * len(field) - 1))
        if found >> 63:
            raise LayerRefusedError("a number in a header is too large")
        return found
    digits = field.strip(b" \0").partition(b"\0")[0]
    if digits.strip(b"01234567"):
        raise LayerRefusedError("a number in a header is damaged")
    return int(digits, 8) if digits else 0


def cleaned(name: bytes) -> bytes:
    """Returns a path without `.`, `..` and double or outer slashes (Go's `filepath.Clean`)."""
    name = name.strip(b"/")
    if name.startswith(b"./"):
        name = name[2:]
    if b"/." in name or b"//" in name or name.startswith((b".", b"/")):
        return _cleaned(name)
    return name


def _cleaned(name: bytes) -> bytes:
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise UnusualLayerError("a name that leads out")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def name_of(member: Member) -> str:
    """Returns the name of a member as people may read it."""
    return repr((member.path or b".").decode("utf-8", "surrogateescape"))
