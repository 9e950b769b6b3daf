"""Tells a preallocated copy, which has its full size before its bytes: SMB, aria2, rsync. Blocking.

Asked only about an archive that is wrong: where zeros or holes are in place of its bytes, the copy
may still run, so it is incomplete and not rejected, as long as the file changed not long ago.
"""

import os
import time
from pathlib import Path

from airside.archive.beneath import Beneath
from airside.archive.formats.image_list import is_tar
from airside.archive.formats.other_files import HEAD_BYTES, describe_other
from airside.archive.open_parts import open_joined
from airside.archive.tar.archive_file import ArchiveFile, JoinedFile, key_of, read_at, size_of
from airside.archive.tar.compression import Compression, detect_compression
from airside.core.errors import AirsideError, ArchiveTruncatedError, InputError
from airside.core.settings import KIB

_TAIL_BYTES = 32 * KIB
"""More zeros than tar writes at the end: a record of 20 blocks has 10 KiB."""
_HEAD_BYTES = 4 * KIB
_CONTROL = ".aria2"


def check_written(
    path: Path, beneath: Beneath, moving_seconds: float, *, is_partial: bool = False
) -> None:
    """Raise ArchiveTruncatedError if a wrong archive is a preallocated copy that may still run.

    `moving_seconds`: how long ago the file changed at most, unless aria2 says that it runs. Of one
    that is wrong in part only zeros at the end count: any file may have holes.
    """
    try:
        if beneath.is_directory(path):
            return
        runs = _has_control_file(path, beneath)
        with open_joined(path, beneath) as file:
            moves = runs or time.time() - _changed_at(file) < moving_seconds
            what = _unwritten(file, is_partial=is_partial) if moves else ""
    except (OSError, AirsideError):
        return
    if runs:
        raise ArchiveTruncatedError(f"aria2 has not downloaded all of it: {path.name}{_CONTROL}")
    if what:
        raise ArchiveTruncatedError(
            f"{what} in place of the archive's bytes: it may still be copied, into space that was "
            "allocated before"
        )


def _has_control_file(path: Path, beneath: Beneath) -> bool:
    try:
        beneath.stat_entry(path.with_name(path.name + _CONTROL))
    except (OSError, AirsideError):
        return False
    return True


def _changed_at(file: ArchiveFile) -> float:
    key = key_of(file)
    return max(key.mtime_ns, key.ctime_ns) / 1e9


def blocks_of(path: Path, beneath: Beneath) -> int:
    """Returns the blocks that a file takes on disk, 0 if it is absent: they show its growth."""
    try:
        return beneath.stat(path).st_blocks
    except (OSError, AirsideError):
        return 0


def _unwritten(file: ArchiveFile, *, is_partial: bool) -> str:
    """Returns what of an archive is not written yet; "" for a whole one, or no archive."""
    size = size_of(file)
    head = read_at(file, HEAD_BYTES, 0)
    if describe_other(head) or (any(head[:_HEAD_BYTES]) and not _is_archive(head)):
        return ""
    tail = read_at(file, _TAIL_BYTES, max(size - _TAIL_BYTES, 0))
    if not any(tail) and (len(tail) == _TAIL_BYTES or len(tail) == size):
        return "zeros are at its end"
    if is_partial or isinstance(file, JoinedFile) or not size:
        return ""
    hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
    return f"a hole is at byte {hole}" if hole < size else ""


def _is_archive(head: bytes) -> bool:
    try:
        return is_tar(head) or detect_compression(head) is not Compression.NONE
    except InputError:
        return False
