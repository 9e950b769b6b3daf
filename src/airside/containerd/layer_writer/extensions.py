"""Reads PAX records and GNU long names, which describe the member behind them."""

import re

from airside.core.errors import LayerRefusedError, UnusualLayerError

PAX, LONG_NAME, LONG_LINK = b"xLK"
_DECIMAL = re.compile(rb"[0-9]+")
_TIME = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]*))?")
_XATTR = b"SCHILY.xattr."
_NS = 1_000_000_000


class Extensions:
    """What the headers before a member say; None where they say nothing."""

    __slots__ = ("atime", "gid", "kinds", "link", "mtime", "path", "size", "uid", "xattrs")

    def __init__(self) -> None:
        self.kinds = b""
        self.path: bytes | None = None
        self.link: bytes | None = None
        self.size: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None
        self.mtime: int | None = None
        self.atime: int | None = None
        self.xattrs: dict[bytes, bytes] = {}

    def add(self, kind: int, data: bytes) -> None:
        """Reads one header. Raises LayerRefusedError, UnusualLayerError."""
        if kind in self.kinds or (self.kinds and PAX in (kind, *self.kinds)):
            raise UnusualLayerError("several headers of a kind before a member")
        self.kinds += bytes((kind,))
        if kind == PAX:
            self.add_records(data)
            return
        name = data.partition(b"\0")[0]
        if not name:
            raise UnusualLayerError("an empty long name")
        if kind == LONG_NAME:
            self.path = name
        else:
            self.link = name

    def add_records(self, data: bytes) -> None:
        """Reads PAX records. Raises LayerRefusedError, UnusualLayerError."""
        for key, value in records(data):
            self._set(key, value)

    def _set(self, key: bytes, value: bytes) -> None:
        if key.startswith(_XATTR):
            self.xattrs[key[len(_XATTR) :]] = value
        elif key.startswith(b"GNU.sparse."):
            raise UnusualLayerError("a sparse member")
        elif key not in _KNOWN:
            return
        elif not value:  # takes back a global record, or means nothing: readers differ
            raise UnusualLayerError("an empty PAX record")
        elif key in (b"path", b"linkpath"):
            setattr(self, "path" if key == b"path" else "link", value)
        elif key in (b"mtime", b"atime"):
            setattr(self, key.decode(), nanoseconds(value))
        else:
            setattr(self, key.decode(), _number(value))


_KNOWN = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"atime"))


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Parses PAX records of `<length> <key>=<value>` and a line feed.

    Raises LayerRefusedError for damaged ones, UnusualLayerError for a zero byte in one.
    """
    found, position = [], 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = data[position:space] if space > 0 else b""
        if not _DECIMAL.fullmatch(length):
            raise LayerRefusedError("a PAX header is damaged")
        end = position + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise LayerRefusedError("a PAX header is damaged")
        if b"\0" in key or (b"\0" in value and not key.startswith(_XATTR)):
            raise UnusualLayerError("a PAX record with a zero byte")
        found.append((key, value))
        position = end
    return found


def _number(value: bytes) -> int:
    if not _DECIMAL.fullmatch(value) or len(value) > 19:
        raise UnusualLayerError("a PAX number that is none")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """Parses a PAX time; what is finer than a nanosecond is cut off."""
    match = _TIME.fullmatch(value)
    if match is None or len(match[2]) > 18:
        raise UnusualLayerError("a PAX time that is none")
    if match[1]:
        return -1
    fraction = (match[3] or b"")[:9].ljust(9, b"0")
    return int(match[2]) * _NS + int(fraction)
