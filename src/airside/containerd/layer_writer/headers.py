"""Reads the headers of a tar as Go's `archive/tar` reads them, which containerd uses.

What Go reads in its own way (GNU sparse members, global PAX headers, old formats, sizes at
members without data) raises UnusualLayerError; what no reader accepts raises LayerRefusedError.
"""

import functools
import os
import struct
import zlib
from collections.abc import Iterator

from airside.containerd.layer_writer.extensions import LONG_LINK, LONG_NAME, PAX, Extensions
from airside.containerd.layer_writer.member import BLOCK, CHARACTER, FIFO, FILE, LINK, Member
from airside.containerd.layer_writer.target import LayerLimits
from airside.core.errors import LayerRefusedError, UnusualLayerError

BLOCK_BYTES = 512
_ZEROS = bytes(BLOCK_BYTES)
_FIELDS = struct.Struct("100s 24s 12s 12s 8x x 100s 8s 64x 16s 155s 8x 4s")
_USTAR, _GNU, _STAR = b"ustar\x0000", b"ustar  \0", b"tar\0"
_NO_DEVICES = frozenset((bytes(16), b"0000000\0" * 2))
_ENOUGH_ZEROS = 256
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
        position += BLOCK_BYTES
        kind = header[156]
        if kind in (PAX, LONG_NAME, LONG_LINK):
            size = _check_numbers(header)
            extensions = extensions or Extensions()
            extensions.add(kind, _extension(tar, position, size, limits))
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
    if position > length:
        raise UnusualLayerError("a file at the end that is not filled up to a block")


def _check_end(tar: memoryview, position: int) -> None:
    """Two blocks of zeros end a tar; what comes behind is ignored."""
    second = bytes(tar[position + BLOCK_BYTES : position + 2 * BLOCK_BYTES])
    if second not in (b"", _ZEROS):
        raise UnusualLayerError("a block of zeros between members, or half of one at the end")


def _check_sum(header: bytes) -> None:
    """Compares the sum of a header's bytes, the checksum itself counted as spaces."""
    if len(header) < BLOCK_BYTES:
        raise LayerRefusedError("the layer ends within a header")
    stored = _checksum(header[148:156])
    # adler32's lower half is the sum modulo 65521; with 256 zeros the sum is less than that
    found = zlib.adler32(header) & 0xFFFF
    if found != stored + 1 or header.count(0) < _ENOUGH_ZEROS:
        _add_up(header, number(header[148:156]))


@functools.lru_cache(8192)
def _checksum(field: bytes) -> int:
    """Returns the sum of the whole header, this field as it is."""
    return number(field) + sum(field) - 8 * ord(" ")


def _add_up(header: bytes, stored: int) -> None:
    whole = header[:148] + b"        " + header[156:]
    unsigned = sum(whole)
    if stored not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in whole)):
        raise LayerRefusedError("the checksum of a header is wrong")


def _check_numbers(header: bytes) -> int:
    """Returns the size in a header that describes the next member.

    Go parses the fields of such a header that mean nothing, too.
    """
    _, ids, size, seconds, _, magic, devices, _, _ = _FIELDS.unpack(header)
    if magic not in (_USTAR, _GNU):
        raise UnusualLayerError("a header in an old format")
    _attributes(ids)
    number(seconds)
    number(devices[:8])
    number(devices[8:])
    return number(size)


def _extension(tar: memoryview, position: int, size: int, limits: LayerLimits) -> bytes:
    """Returns the data of a header that describes the next member.

    Copied: a part of the map in the frames of an error would keep the map from being closed.
    """
    if size > limits.extension_bytes:
        raise LayerRefusedError(f"a header of {size} bytes; {limits.extension_bytes} are allowed")
    if position + size > len(tar):
        raise LayerRefusedError("the layer ends within a header")
    return tar[position : position + size].tobytes()


def _member(header: bytes, kind: int, extensions: Extensions | None) -> Member:
    name, ids, size, seconds, link, magic, devices, prefix, trailer = _FIELDS.unpack(header)
    name = name.partition(b"\0")[0]
    if magic != _USTAR or prefix[0] or trailer == _STAR:
        name = _long_name(name, magic, prefix, trailer)
    member = Member(kind, name, link.partition(b"\0")[0] if link[0] else b"")
    member.mode, member.uid, member.gid = _attributes(ids)
    member.size = number(size)
    member.mtime = member.atime = number(seconds) * _NS
    if extensions is not None:
        _extend(member, extensions)
    if devices not in _NO_DEVICES:
        major, minor = number(devices[:8]), number(devices[8:])
        if kind in (CHARACTER, BLOCK):
            member.device = _device(major, minor)
    _settle(member)
    return member


@functools.lru_cache(1024)
def _attributes(field: bytes) -> tuple[int, int, int]:
    """Parses mode and owner."""
    return number(field[:8]) & 0o7777, number(field[8:16]), number(field[16:])


def _device(major: int, minor: int) -> int:
    if major > _MOST_MAJOR or minor > _MOST_MINOR:
        raise UnusualLayerError(f"a device {major}:{minor}")
    return os.makedev(major, minor)


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


def _long_name(name: bytes, magic: bytes, prefix: bytes, trailer: bytes) -> bytes:
    """Returns the name with its prefix, which the GNU format has not."""
    if magic == _USTAR and trailer != _STAR:
        return prefix.partition(b"\0")[0] + b"/" + name
    if magic != _GNU or prefix[0] or prefix[12]:  # times of access and change
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
