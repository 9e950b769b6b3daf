"""Reads the directories of an erofs image, and changes attributes in one (`fs/erofs/erofs_fs.h`).

Only what an index and containerd's layers have: directories whose entries lie in whole blocks or
behind their inode, uncompressed.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from airside.core.errors import UnusualLayerError

SUPER_OFFSET = 1024
MAGIC = 0xE0F5E1E2
_SUPER = struct.Struct("<I8xBxH8xQI4xI")
"""Magic number, bits of a block's length, root, build time, and where the inodes are."""
_COMPACT, _EXTENDED = struct.Struct("<HHH2xI4xI4xHH"), struct.Struct("<HHH2xQI4xIIQI")
_COMPACT_BYTES, _EXTENDED_BYTES = 32, 64
_NODE_BYTES = 32
_DIRENT = struct.Struct("<QHBx")
_DIRECTORY, _KIND = 0o40000, 0o170000
_TYPE_DIRECTORY = 2
_PLAIN, _INLINE = 0, 2
_MOST_DEPTH = 4096


@dataclass(frozen=True, slots=True)
class Attributes:
    mode: int
    """Permissions with set-user-ID, set-group-ID and sticky bits."""
    owner: int
    group: int
    mtime: tuple[int, int]
    """Seconds and nanoseconds."""


@dataclass(frozen=True, slots=True)
class Inode:
    """A directory: where its inode lies, and where its entries do."""

    offset: int
    is_extended: bool
    attributes: Attributes
    size_bytes: int
    first_block: int
    tail_offset: int
    """Where the entries behind the inode begin; -1: all are in blocks."""


class Image:
    """An image in memory. Raises UnusualLayerError for what is no image or not read here."""

    def __init__(self, raw: bytes | bytearray | memoryview) -> None:
        self._raw = raw
        try:
            magic, bits, root, seconds, nanoseconds, blocks = _SUPER.unpack_from(raw, SUPER_OFFSET)
        except struct.error as exc:
            raise UnusualLayerError("an image of erofs without a superblock") from exc
        if magic != MAGIC or not 9 <= bits <= 16:
            raise UnusualLayerError("no image of erofs")
        self._block_bytes, self._root = 1 << bits, root
        self._inodes_offset = blocks << bits
        self.built = (seconds, nanoseconds)
        self._listed: list[tuple[int, dict[bytes, int]]] = []
        """The directories of the last path that was looked for, with what each lists."""

    def find(self, path: tuple[bytes, ...]) -> Attributes | None:
        """Returns the attributes of a directory; None if there is none.

        Not thread-safe. Of paths that are looked for in their order each directory is read once.
        """
        node = self._root
        for depth, name in enumerate(path):
            found = self._listing(depth, node).get(name)
            if found is None:
                return None
            node = found
        return self._inode(node).attributes

    def _listing(self, depth: int, node: int) -> dict[bytes, int]:
        if len(self._listed) == depth or self._listed[depth][0] != node:
            del self._listed[depth:]
            self._listed.append((node, dict(self._entries(self._inode(node)))))
        return self._listed[depth][1]

    def walk(self) -> Iterator[tuple[tuple[bytes, ...], Inode]]:
        """Yields each directory with its path; that of the root is empty."""
        left: list[tuple[tuple[bytes, ...], int]] = [((), self._root)]
        seen: set[int] = set()
        while left:
            path, node = left.pop()
            if node in seen:
                raise UnusualLayerError("an image of erofs with a directory in two places")
            seen.add(node)
            inode = self._inode(node)
            yield path, inode
            if len(path) > _MOST_DEPTH:
                raise UnusualLayerError("an image of erofs with directories too deep")
            left += [((*path, name), node) for name, node in self._entries(inode)]

    def _inode(self, node: int) -> Inode:
        offset = self._inodes_offset + node * _NODE_BYTES
        try:
            (form,) = struct.unpack_from("<H", self._raw, offset)
            if form & 1:
                _, xattrs, mode, size, block, owner, group, seconds, nanoseconds = (
                    _EXTENDED.unpack_from(self._raw, offset)
                )
                mtime, end = (seconds, nanoseconds), offset + _EXTENDED_BYTES
            else:
                _, xattrs, mode, size, block, owner, group = _COMPACT.unpack_from(self._raw, offset)
                mtime, end = self.built, offset + _COMPACT_BYTES
        except (struct.error, OverflowError) as exc:
            raise UnusualLayerError("an image of erofs that ends early") from exc
        layout = form >> 1 & 7
        if mode & _KIND != _DIRECTORY or layout not in {_PLAIN, _INLINE}:
            raise UnusualLayerError("an image of erofs with directories of another form")
        if xattrs:
            end += 12 + (xattrs - 1) * 4
        attributes = Attributes(mode & 0o7777, owner, group, mtime)
        tail = end if layout == _INLINE else -1
        return Inode(offset, bool(form & 1), attributes, size, block, tail)

    def _entries(self, inode: Inode) -> Iterator[tuple[bytes, int]]:
        """Yields names and numbers of the directories in a directory."""
        whole, rest = divmod(inode.size_bytes, self._block_bytes)
        if inode.tail_offset < 0 and rest:
            whole, rest = whole + 1, 0
        left = inode.size_bytes
        for number in range(whole):
            begin = (inode.first_block + number) * self._block_bytes
            yield from _directories(self._raw[begin : begin + min(left, self._block_bytes)])
            left -= self._block_bytes
        if rest:
            yield from _directories(self._raw[inode.tail_offset : inode.tail_offset + rest])


def _directories(block: bytes | bytearray | memoryview) -> Iterator[tuple[bytes, int]]:
    """Yields names and numbers of the directories that a block of entries lists."""
    try:
        _, first, _ = _DIRENT.unpack_from(block, 0)
        entries = [_DIRENT.unpack_from(block, at) for at in range(0, first, _DIRENT.size)]
    except struct.error as exc:
        raise UnusualLayerError("an image of erofs with a damaged directory") from exc
    ends = [offset for _, offset, _ in entries[1:]] + [len(block)]
    for (node, begin, kind), end in zip(entries, ends, strict=True):
        if kind == _TYPE_DIRECTORY:
            name = bytes(block[begin:end]).partition(b"\0")[0]
            if name not in {b".", b".."}:
                yield name, node


def set_attributes(raw: bytearray, inode: Inode, attributes: Attributes) -> None:
    """Changes mode, owner and times of a directory in an image.

    Raises UnusualLayerError if its inode has no room for the owner.
    """
    at, mode = inode.offset, _DIRECTORY | attributes.mode
    struct.pack_into("<H", raw, at + 4, mode)
    if inode.is_extended:
        struct.pack_into("<II", raw, at + 24, attributes.owner, attributes.group)
        struct.pack_into("<QI", raw, at + 32, *attributes.mtime)
        return
    if max(attributes.owner, attributes.group) > 0xFFFF:
        raise UnusualLayerError("a directory without an entry, whose owner is a large number")
    struct.pack_into("<HH", raw, at + 24, attributes.owner, attributes.group)
