"""Measures the disk space that a layer takes when containerd unpacks it, before it is unpacked.

The length of a layer tells little: 2 MB of gzip hold 2 GB, and 1 KiB of tar a sparse file of any
size, which containerd writes with all its zeros. So the headers of the tar are read: each file
takes whole blocks of the file system. What is measured is an estimate for honest layers and an
upper bound for most hostile ones; while containerd unpacks, the free space is watched all the same
(`unpack_layer`).
"""

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from airside.archive.tar.members import header_number
from airside.core.errors import AirsideError, StoppedError
from airside.oci.digest import Digest
from airside.oci.model import Descriptor

Stop = Callable[[], bool]
OpenTar = Callable[[Descriptor, Stop], Generator[bytes, None, None] | None]
"""Returns the uncompressed bytes of a layer in chunks, to be closed; None if that is no use. May
raise any AirsideError, at once or between the chunks.
"""
OpenBlob = Callable[[Digest], BinaryIO]

_TAR_BLOCK = 512
_NO_HEADER = bytes(_TAR_BLOCK)
_DISK_BLOCK = 4096
_ENTRY_BYTES = 512
"""For the inode and the name of a file."""
_HEADER_ONLY = frozenset(b"123456")
_PAX, _GLOBAL, _OLD_SPARSE = b"x"[0], b"g"[0], b"S"[0]
_META = frozenset((_PAX, _GLOBAL, b"L"[0], b"K"[0]))
"""Entries that describe the next one; containerd writes no file for them."""
_MOST_PAX_BYTES = 1 << 20
_SIZES = re.compile(rb"\d+ (size|GNU\.sparse\.size|GNU\.sparse\.realsize)=(\d{1,19})\n")
_REMEMBERED = 1024
_STOP_BLOCKS = 4096


@dataclass(slots=True)
class TarFootprint:
    """Measures a tar that is fed in chunks, in order. Not thread-safe.

    A tar that ends early or is damaged has the footprint of what was read; containerd stops there.
    """

    size_bytes: int = 0
    tar_bytes: int = 0
    """The length of the tar that was fed."""
    ended: bool = False
    _skip: int = 0
    _pax: bytearray | None = None
    _pax_left: int = 0
    _part: bytearray = field(default_factory=bytearray)
    _sizes: dict[bytes, int] = field(default_factory=dict)

    @property
    def skip_bytes(self) -> int:
        """Bytes that need not be fed: `skipped` passes them."""
        return 0 if self._pax is not None else self._skip

    def skipped(self) -> None:
        self.tar_bytes += self._skip
        self._skip = 0

    def feed(self, chunk: bytes) -> None:
        """Reads the next bytes of the tar."""
        self.tar_bytes += len(chunk)
        at, end = 0, len(chunk)
        while at < end and not self.ended:
            if self._skip:
                step = min(self._skip, end - at)
                if self._pax is not None:
                    self._pax += chunk[at : at + step]
                self._skip -= step
                at += step
                if not self._skip and self._pax is not None:
                    self._read_pax(self._pax)
                continue
            if not self._part and end - at >= _TAR_BLOCK:
                self._read_header(chunk[at : at + _TAR_BLOCK])
                at += _TAR_BLOCK
                continue
            missing = _TAR_BLOCK - len(self._part)
            self._part += chunk[at : at + missing]
            at += missing
            if len(self._part) == _TAR_BLOCK:
                block, self._part = bytes(self._part), bytearray()
                self._read_header(block)

    def _read_pax(self, raw: bytearray) -> None:
        for found in _SIZES.finditer(raw):
            self._sizes[found[1]] = int(found[2])
        self._pax = None

    def _read_header(self, block: bytes) -> None:
        kind, length = block[156], header_number(block[124:136])
        if block == _NO_HEADER or length is None:
            self.ended = True
            return
        if kind in _META:
            self._skip = _rounded(length, _TAR_BLOCK)
            if kind == _PAX and length <= _MOST_PAX_BYTES:
                self._pax = bytearray()
            return
        sizes, self._sizes = self._sizes, {}
        length = 0 if kind in _HEADER_ONLY else sizes.get(b"size", length)
        self._skip = _rounded(length, _TAR_BLOCK)
        if kind == _OLD_SPARSE:
            length = max(length, header_number(block[483:495]) or 0)
            if block[482]:  # blocks with more of the map follow: unread, so the rest is a guess
                self._skip += _TAR_BLOCK
        written = max([length, *(v for k, v in sizes.items() if k != b"size")])
        self.size_bytes += _ENTRY_BYTES + _rounded(written, _DISK_BLOCK)
        if kind == b"5"[0]:
            self.size_bytes += _DISK_BLOCK


def _rounded(count: int, unit: int) -> int:
    return -(-count // unit) * unit


class LayerFootprints:
    """Measures layers, and remembers what it measured. Thread-safe."""

    def __init__(self, open_blob: OpenBlob, open_tar: OpenTar) -> None:
        self._open_blob, self._open_tar = open_blob, open_tar
        self._known: OrderedDict[Digest, int] = OrderedDict()
        self._lock = threading.Lock()

    def learn(self, layer: Digest, size_bytes: int) -> None:
        """Remembers that a layer takes at least so many bytes."""
        with self._lock:
            self._known[layer] = max(size_bytes, self._known.pop(layer, 0))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def known(self, layer: Digest) -> int:
        """Returns the least bytes that the layer is known to take; 0 if nothing is known."""
        return self._known.get(layer, 0)

    def measure(self, layer: Descriptor, room_bytes: int, stop: Stop) -> int | None:
        """Returns the bytes that a layer takes; None if it can't be read here.

        Ends as soon as it is more than `room_bytes`. Raises StoppedError.
        """
        known = self.known(layer.digest)
        if known > room_bytes:
            return known
        found = TarFootprint()
        try:
            chunks = self._open_tar(layer, stop)
            if chunks is None:
                self._read_plain(layer.digest, found, room_bytes, stop)
            else:
                with contextlib.closing(chunks):
                    _feed(found, chunks, room_bytes, stop)
        except StoppedError:
            raise
        except (AirsideError, OSError):
            return known or None  # containerd says what is wrong with it
        self.learn(layer.digest, found.size_bytes)
        return max(found.size_bytes, known)

    def _read_plain(self, digest: Digest, found: TarFootprint, room_bytes: int, stop: Stop) -> None:
        """Reads the headers of a plain tar, and none of its files."""
        with self._open_blob(digest) as file:
            for count, block in enumerate(iter(partial(file.read, _TAR_BLOCK), b"")):
                found.feed(block)
                if found.skip_bytes:
                    file.seek(found.skip_bytes, 1)
                    found.skipped()
                if found.ended or found.size_bytes > room_bytes:
                    return
                if count % _STOP_BLOCKS == 0 and stop():
                    raise StoppedError("stopped while a layer was measured")


def _feed(found: TarFootprint, chunks: Iterable[bytes], room_bytes: int, stop: Stop) -> None:
    for chunk in chunks:
        if stop():
            raise StoppedError("stopped while a layer was measured")
        found.feed(chunk)
        if found.ended or found.size_bytes > room_bytes:
            return
