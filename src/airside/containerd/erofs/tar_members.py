"""Looks through the headers of a tar for what mkfs.erofs would not index as containerd unpacks it.

mkfs.erofs (1.8) drops a member of a type that it does not know, without an error, and takes the map
of a sparse member for its bytes. Such a layer is refused: containerd's differ would make the same
of it.
"""

import mmap
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from airside.archive.tar.members import header_number
from airside.containerd.layer_writer.extensions import records
from airside.core.errors import LayerRefusedError, UnusualLayerError

_BLOCK = 512
_NO_HEADER = bytes(_BLOCK)
_KNOWN = frozenset(b"\x000123456xgLK")
_DESCRIBING, _PAX = frozenset(b"xgLK"), b"x"[0]
_BODILESS = frozenset(b"123456")
_SPARSE = b"GNU.sparse."
_MOST_PAX_BYTES = 1 << 20


def check_members(tar: BinaryIO, *, most: int) -> None:
    """Raises LayerRefusedError, with the member, for a layer that would not be indexed rightly.

    So it does for one of more than `most` members. UnusualLayerError: it is not read here.
    """
    size_bytes = os.fstat(tar.fileno()).st_size
    if not size_bytes:
        return
    with mmap.mmap(tar.fileno(), size_bytes, prot=mmap.PROT_READ) as view:
        for count, block in enumerate(_members(view, size_bytes)):
            if count >= most:
                raise LayerRefusedError(f"more than {most} members, at {_name(block)}")


def _members(view: mmap.mmap, size_bytes: int) -> Iterator[bytes]:
    """Yields the header of each member that is no description of the next one."""
    at, size_of_next = 0, None
    while at + _BLOCK <= size_bytes:
        block = view[at : at + _BLOCK]
        if block == _NO_HEADER:
            return
        kind, length = block[156], _length(block)
        at += _BLOCK
        if kind not in _DESCRIBING:
            if kind not in _KNOWN:
                raise LayerRefusedError(f"mkfs.erofs leaves out {_name(block)}: type {chr(kind)!r}")
            if kind in _BODILESS:
                length = 0
            elif size_of_next is not None:
                length = size_of_next
            size_of_next = None
            yield block
        elif kind == _PAX:
            if length > _MOST_PAX_BYTES:
                raise UnusualLayerError(f"a header of {length} bytes")
            size_of_next = _pax_size(view[at : at + length])
        at += -(-length // _BLOCK) * _BLOCK


def _length(block: bytes) -> int:
    found = header_number(block[124:136])
    if found is None:
        raise UnusualLayerError("a member without a length")
    return found


def _pax_size(data: bytes) -> int | None:
    """Returns the length of the next member, if its records say one."""
    found = dict(records(data))
    if any(key.startswith(_SPARSE) for key in found):
        raise LayerRefusedError(f"mkfs.erofs takes a sparse member for a plain one: {_told(found)}")
    digits = found.get(b"size", b"")
    return int(digits) if digits.isdigit() and len(digits) < 20 else None


def _told(found: Mapping[bytes, bytes]) -> str:
    return ascii(found.get(_SPARSE + b"name", b"").decode("utf-8", "replace"))


def _name(block: bytes) -> str:
    return ascii(block[:100].partition(b"\0")[0].decode("utf-8", "replace"))
