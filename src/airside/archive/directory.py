"""Archives that are directories: an OCI layout as it is, not in a tar. Blocking.

What tells a change of a directory is folded into a `StatKey` of all its files, so that the watch,
the queue and the importer treat it as one archive (design 4.15). Symbolic links to files are
followed, links to directories below the top are not.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from airside.archive.stat_key import StatKey

LAYOUT_MARKS = frozenset({"oci-layout", "index.json", "blobs", "manifest.json"})
"""What a directory that is one archive has at its top; nothing below it is one of its own."""


_DEPTH = 4
"""Levels of directories that are looked into: `blobs/sha256` has two."""
_TO_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Of a file that is gone meanwhile, or of a link."""


def is_archive_directory(path: Path) -> bool:
    """Whether a directory is an image layout, whole or not; False for what can't be looked at."""
    try:
        with os.scandir(path) as entries:
            return any(entry.name in LAYOUT_MARKS for entry in entries)
    except OSError:
        return False


def iter_files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files of a directory: name from its root with `/`, and stat. Raises OSError."""
    yield from _iter_below(root, "", _DEPTH)


def iter_directories(root: Path) -> Iterator[Path]:
    """The directory and those below it that are looked into. Raises OSError."""
    yield root
    yield from _iter_directories(root, _DEPTH)


def _iter_directories(path: Path, depth: int, *, top: bool = True) -> Iterator[Path]:
    with os.scandir(path) as entries:
        found = [Path(entry.path) for entry in entries if _is_directory(entry, follow=top)]
    for below in found if depth else ():
        yield below
        yield from _iter_directories(below, depth - 1, top=False)


def _iter_below(root: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(root / prefix) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = prefix + entry.name
        if _is_directory(entry, follow=not prefix):  # `blobs` may be a link to a shared store
            if depth:
                yield from _iter_below(root, name + "/", depth - 1)
            continue
        try:
            status = entry.stat()
        except OSError as exc:
            if exc.errno in _TO_NOWHERE:
                continue
            raise
        if stat.S_ISREG(status.st_mode):
            yield name, status


def _is_directory(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError as exc:
        if exc.errno in _TO_NOWHERE:
            return False
        raise


def stat_key(path: Path) -> StatKey:
    """The stat key of a file, or of all the files of a directory. Raises OSError.

    Of a directory: the sizes together, the newest times, and for the inode a digest of every
    name, inode, size and time.
    """
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        return StatKey.of(found)
    size = mtime = ctime = 0
    hasher = hashlib.blake2b(str(found.st_ino).encode(), digest_size=8)
    for name, status in iter_files(path):
        values = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        hasher.update(f"{name}\0{values}\n".encode("utf-8", "surrogateescape"))
        size += status.st_size
        mtime, ctime = max(mtime, status.st_mtime_ns), max(ctime, status.st_ctime_ns)
    return StatKey(int.from_bytes(hasher.digest()) >> 1, size, mtime, ctime)
