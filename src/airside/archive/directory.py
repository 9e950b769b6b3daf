"""Archives that are directories: an OCI layout that is not packed in a tar. Blocking.

The stats of all files of such a directory are folded into one `StatKey`, so that the watcher, the
import queue and the importer treat the directory as one archive. Symbolic links to files are
followed; links to directories are followed at the top level only.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from airside.archive.stat_key import StatKey

LAYOUT_MARKS = frozenset({"oci-layout", "index.json", "blobs", "manifest.json"})
"""Names at the top of a directory that make it one archive, with all that is below it."""

_DEPTH = 4
"""Levels of directories that are read: `blobs/sha256` has two."""
_DANGLING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors for a link to nothing, and for a file that was deleted after it was listed."""


def is_archive_directory(path: Path) -> bool:
    """Returns True if the directory is an image layout, complete or not; False if unreadable."""
    try:
        with os.scandir(path) as entries:
            return any(entry.name in LAYOUT_MARKS for entry in entries)
    except OSError:
        return False


def iter_files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the regular files: path from the root with `/`, and stat. Raises OSError."""
    yield from _iter_below(root, "", _DEPTH)


def iter_directories(root: Path) -> Iterator[Path]:
    """Yields the directory and those below it, to the depth that is read. Raises OSError."""
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
            if exc.errno in _DANGLING:
                continue
            raise
        if stat.S_ISREG(status.st_mode):
            yield name, status


def _is_directory(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError as exc:
        if exc.errno in _DANGLING:
            return False
        raise


def stat_key(path: Path) -> StatKey:
    """Returns the stat key of a file, or of all the files of a directory. Raises OSError.

    The key of a directory has the sum of the sizes, the newest times, and in place of the inode a
    digest of every name, inode, size and time.
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
