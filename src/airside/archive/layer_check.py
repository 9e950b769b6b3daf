"""Finds in the tar of a layer what containerd refuses to unpack, by its headers. Pure.

containerd knows files, directories, links, devices and FIFOs; for every other type
of header it ends with "unhandled tar header type 83", without a name. Go's reader refuses damaged
headers, and a hard link needs its target in the same layer. What the check is unsure of it does not
report. Left to others: the compression (`archive.layer_probe`), and the bytes of the files.
"""

import re
from dataclasses import dataclass, field
from zlib import adler32

from airside.archive.tar.members import header_number, parse_pax
from airside.core.errors import ArchiveError
from airside.oci.digest import BytesLike

_BLOCK = 512
_ZERO_BLOCK = bytes(_BLOCK)
_MOST_EXTENDED_BYTES = 1 << 20
_MOST_NAMES = 100_000
"""Names that are remembered for hard links; links are not checked in a layer that has more."""
_MOST_FOUND = 20
_NAME_BYTES = 255
_SIZE = re.compile(r"[0-9]{1,19}")
_UNPACKED = frozenset(b"0123456") | {0}
_LINK, _SYMLINK = b"1"[0], b"2"[0]
_HEADER_ONLY = frozenset(b"123456")
_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL = b"L"[0], b"K"[0], b"x"[0], b"g"[0]
_EXTENDED = frozenset((_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL))
_KINDS = {
    b"S"[0]: ("a GNU sparse file", "write the layer's tar without --sparse"),
    b"7"[0]: ("a contiguous file", "write the layer's tar with another program"),
    b"D"[0]: ("a directory of an incremental backup", "write the layer's tar without -g"),
    b"M"[0]: ("the rest of a file of another volume", "write the layer's tar as one volume"),
    b"V"[0]: ("a volume label", "write the layer's tar without --label"),
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A member that containerd refuses: its name, what it is, and what to do."""

    member: str
    reason: str
    advice: str

    def __str__(self) -> str:
        what = f"member {self.member!r:.200} is {self.reason}"
        return f"{what}, which containerd refuses to unpack: {self.advice}"


@dataclass(slots=True)
class LayerCheck:
    """Checks a tar that is fed in chunks, in order. Not thread-safe. `ended`: no more is needed."""

    found: list[Refused] = field(default_factory=list)
    ended: bool = False
    _skip: int = 0
    _part: bytes = b""
    _extended: bytearray | None = None
    _extended_kind: int = 0
    _name: bytes = b""
    _link: bytes = b""
    _size: int | None = None
    _names: set[int] | None = field(default_factory=set)

    def feed(self, chunk: BytesLike) -> None:
        """Reads the next bytes of the tar."""
        at, end = 0, len(chunk)
        while at < end and not self.ended:
            if self._extended is None and not self._part:
                at = self._take_headers(chunk, at, end)
                if self.ended:
                    return
            if self._skip:
                step = min(self._skip, end - at)
                if self._extended is not None:
                    self._extended += chunk[at : at + step]
                self._skip -= step
                at += step
                if not self._skip and self._extended is not None:
                    self._take_extended(bytes(self._extended))
                continue
            step = min(_BLOCK - len(self._part), end - at)
            self._part += chunk[at : at + step]
            at += step
            if len(self._part) == _BLOCK:
                block, self._part = self._part, b""
                self._take_header(block)

    def _take_headers(self, chunk: BytesLike, at: int, end: int) -> int:
        """Takes the whole headers of a chunk. Returns the position of what is left of it."""
        while not self.ended and self._extended is None and at + self._skip + _BLOCK <= end:
            at += self._skip
            self._skip = 0
            self._take_header(bytes(chunk[at : at + _BLOCK]))
            at += _BLOCK
        return at

    def _take_header(self, block: bytes) -> None:
        kind, length = block[156], header_number(block[124:136])
        if length is None or block == _ZERO_BLOCK or not _is_header(block):
            self.ended = True
            return
        if kind in _EXTENDED:
            self._skip = length + -length % _BLOCK
            self._extended_kind = kind
            if kind != _GLOBAL and not length:
                self._take_extended(b"")
            elif kind != _GLOBAL and length <= _MOST_EXTENDED_BYTES:
                self._extended = bytearray()
            else:  # a global header may rename what follows: links are not checked any more
                self._names = None
            return
        name = self._name or _name_of(block)
        link = self._link or block[157:257].split(b"\0")[0]
        size = self._size if self._size is not None else length
        self._name = self._link = b""
        self._size = None
        self._skip = 0 if kind in _HEADER_ONLY else size + -size % _BLOCK
        if kind == b"S"[0] and block[482]:
            self.ended = True  # blocks with more of the map follow
        self._judge(kind, name, link)

    def _judge(self, kind: int, name: bytes, link: bytes) -> None:
        if kind not in _UNPACKED:
            what, advice = _KINDS.get(
                kind,
                (f"of the type {chr(kind)!a}", "write the layer's tar with another program"),
            )
            self._refuse(name, what, advice)
        elif len(name) > _NAME_BYTES and max(map(len, name.split(b"/"))) > _NAME_BYTES:
            self._refuse(name, "a file with a name of more than 255 bytes", "shorten it")
        elif kind == _SYMLINK and not link:
            self._refuse(name, "a symbolic link without a target", "remove it")
        elif kind == _LINK and self._names is not None and _path(link) not in self._names:
            self._refuse(
                name,
                f"a hard link to {_text(link)!r}, which is not in the layer before it",
                "build the image again, with the link and its target in one layer",
            )
        if self._names is not None:
            self._names.add(_path(name))
            if len(self._names) > _MOST_NAMES:
                self._names = None

    def _refuse(self, name: bytes, reason: str, advice: str) -> None:
        self.found.append(Refused(_text(name), reason, advice))
        self.ended = self.ended or len(self.found) >= _MOST_FOUND

    def _take_extended(self, raw: bytes) -> None:
        self._extended = None
        if self._extended_kind == _LONG_NAME:
            self._name = raw.split(b"\0")[0]
        elif self._extended_kind == _LONG_LINK:
            self._link = raw.split(b"\0")[0]
        else:
            self._take_pax(raw)

    def _take_pax(self, raw: bytes) -> None:
        try:
            found = parse_pax(raw)
        except ArchiveError:
            self.ended = True
            return
        self._name = found["path"].encode() if "path" in found else self._name
        self._link = found["linkpath"].encode() if "linkpath" in found else self._link
        if _SIZE.fullmatch(found.get("size", "")):
            self._size = int(found["size"])
        if found.get("sparse"):
            self._name = found["sparse"].encode()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _is_header(block: bytes) -> bool:
    """Returns True if the checksum is right, signed or unsigned."""
    want = header_number(block[148:156])
    if want is None:
        return False
    own = sum(block[148:156]) - 8 * 32
    # half of Adler-32 is 1 + the sum of the bytes, modulo 65521: ten times as quick as `sum`
    if want + own + 1 == adler32(block) & 0xFFFF:
        return True
    total = sum(block) - own
    if want == total:
        return True
    high = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in block[148:156])
    return want == total - 256 * high


def _name_of(block: bytes) -> bytes:
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _path(name: bytes) -> int:
    """Returns the hash of a path below the root of the layer, however it is written."""
    name = name.removeprefix(b"./").strip(b"/")
    if b"//" in name or b"./" in name or name.endswith(b"/."):
        name = b"/".join(part for part in name.split(b"/") if part not in {b"", b"."})
    return hash(name)
