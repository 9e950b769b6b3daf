"""Writes `layer.erofs`: the index of a tar, and behind it the tar.

The index says at which block of 512 bytes the tar begins (`uniaddr` of its device slot, as the
kernel's `fs/erofs/erofs_fs.h` has it). containerd's differ puts the tar right behind the index. So
do we, except where the file system shares extents (xfs, btrfs): there the tar begins at the next
block of the file system, `uniaddr` says so, and the tar's bytes are those of our own blob
(FICLONERANGE), so that the layer takes the space of its index only.
"""

import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from airside.containerd.erofs.image import MAGIC, SUPER_OFFSET
from airside.containerd.erofs.snapshot_directory import LAYER
from airside.core.errors import StoppedError, UnusualLayerError
from airside.core.settings import MIB

Stop = Callable[[], bool]

CLONED, COPIED = "clone", "copy"
BLOCK_BYTES = 512
_SUPER = struct.Struct("<I4xIB67xI2xHH")
"""Magic number, compatible features, bits of a block's length; incompatible features, the number of
extra devices, and the slot of the first."""
_CHECKSUM, _DEVICE_TABLE = 1, 8
_SLOT_BYTES = 128
_SLOT = struct.Struct("<64xII")
"""Its number of blocks, and where it begins."""
_FICLONERANGE = 0x4020940D
_COPY_BYTES = MIB
"""read(2) and write(2) of this much take less processor time than copy_file_range(2) (ADR 0050)."""
_MODE = 0o644
_MOST_ALIGNMENT = MIB


@dataclass(frozen=True, slots=True)
class Index:
    """An index: its length, and where in it is said at which block the tar begins."""

    size_bytes: int
    uniaddr_offset: int


def parse_index(raw: bytes | bytearray) -> Index:
    """Returns what the superblock says. Raises UnusualLayerError for another file system image."""
    if len(raw) < SUPER_OFFSET + _SUPER.size:
        raise UnusualLayerError("mkfs.erofs made no index")
    magic, compatible, bits, incompatible, devices, slot = _SUPER.unpack_from(raw, SUPER_OFFSET)
    found = Index(len(raw), slot * _SLOT_BYTES + _SLOT.size - 4)
    is_known = (magic, bits, devices) == (MAGIC, 9, 1) and incompatible & _DEVICE_TABLE
    if not is_known or compatible & _CHECKSUM or found.uniaddr_offset + 4 > len(raw):
        raise UnusualLayerError("mkfs.erofs made an index of another form than expected")
    _, uniaddr = _SLOT.unpack_from(raw, slot * _SLOT_BYTES)
    if uniaddr * BLOCK_BYTES != len(raw):
        raise UnusualLayerError("mkfs.erofs made an index that expects its tar elsewhere")
    return found


def write_layer(directory: int, index: bytearray, tar: BinaryIO, stop: Stop) -> str:
    """Creates `layer.erofs` in a directory, and syncs it.

    Returns "clone" if the tar's extents are shared, else "copy". Raises UnusualLayerError,
    StoppedError, OSError; what was written of it stays.
    """
    found = parse_index(index)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    number = os.open(LAYER, flags, _MODE, dir_fd=directory)
    with open(number, "r+b", buffering=0) as layer:  # noqa: PTH123 - a descriptor
        os.fchmod(number, _MODE)
        _write(number, memoryview(index), 0)
        way = CLONED
        if not _cloned(layer, found, tar):
            _append(tar, layer, found.size_bytes, stop)
            way = COPIED
        os.fsync(number)
    return way


def _cloned(layer: BinaryIO, index: Index, tar: BinaryIO) -> bool:
    """Shares the tar's extents, behind the index. Returns False where that is not possible."""
    number = layer.fileno()
    alignment = os.fstatvfs(number).f_bsize
    if not BLOCK_BYTES <= alignment <= _MOST_ALIGNMENT or alignment % BLOCK_BYTES:
        return False
    begin = -(-index.size_bytes // alignment) * alignment
    wanted = struct.pack("qQQQ", tar.fileno(), 0, 0, begin)  # 0: to the end of the tar
    try:
        fcntl.ioctl(number, _FICLONERANGE, wanted)
    except OSError:
        return False
    os.pwrite(number, struct.pack("<I", begin // BLOCK_BYTES), index.uniaddr_offset)
    return True


def _append(tar: BinaryIO, layer: BinaryIO, begin: int, stop: Stop) -> None:
    """Copies the tar to the place `begin` of the layer."""
    buffer = bytearray(_COPY_BYTES)
    done = 0
    while count := os.preadv(tar.fileno(), [buffer], done):
        if stop():
            raise StoppedError("stopped while a layer was written")
        _write(layer.fileno(), memoryview(buffer)[:count], begin + done)
        done += count


def _write(number: int, data: memoryview, begin: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(number, data[written:], begin + written)
