"""Archives that are directories: an OCI layout that is not packed in a tar. Blocking.

The stats of all files of such a directory are folded into one `StatKey`, so that the watcher, the
import queue and the importer treat the directory as one archive. Symbolic links to files are
followed, and links to directories at the top level only; both as `airside.archive.beneath` allows.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from airside.archive.beneath import ANYWHERE, Beneath, Opened
from airside.archive.open_parts import joined_key
from airside.archive.stat_key import StatKey
from airside.core.errors import ArchiveError, LinkRefusedError

LAYOUT_MARKS = frozenset({"oci-layout", "index.json", "blobs", "manifest.json"})
"""Names at the top of a directory that make it one archive, with all that is below it."""

_DEPTH = 4
"""Levels of directories that are read: `blobs/sha256` has two."""
_DEPTH_OUTSIDE = 2
"""The same where a link leads out of the watched directory: whatever is there, it is not ours."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors for a link to nothing, and for a file that was deleted after it was listed."""


def is_archive_directory(path: Path, beneath: Beneath = ANYWHERE) -> bool:
    """Returns True if the directory is an image layout, complete or not; False if unreadable."""
    try:
        with _listed(path, beneath) as (_, entries):
            return any(entry.name in LAYOUT_MARKS for entry in entries)
    except (OSError, LinkRefusedError):
        return False


def iter_files(
    root: Path, beneath: Beneath = ANYWHERE, refused: set[str] | None = None
) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the regular files: path from the root with `/`, and stat.

    The names from which a link may not be followed are added to `refused`. Raises OSError,
    LinkRefusedError for the root itself.
    """
    yield from _Files(root, beneath, set() if refused is None else refused).below("")


def iter_directories(root: Path, beneath: Beneath = ANYWHERE) -> Iterator[Path]:
    """Yields the directory and those below it, to the depth that is read.

    Raises OSError, LinkRefusedError.
    """
    yield root
    yield from _iter_directories(root, beneath, 0)


def _iter_directories(path: Path, beneath: Beneath, level: int) -> Iterator[Path]:
    with _listed(path, beneath) as (opened, entries):
        found = [path / e.name for e in entries if _is_directory(e, follow=not level)]
        deepest = _deepest(opened)
    for below in found if level < deepest else ():
        if not level and not beneath.is_directory(below):  # a link to a file, or one refused
            continue
        yield below
        yield from _iter_directories(below, beneath, level + 1)


def _deepest(directory: Opened) -> int:
    return _DEPTH if directory.is_inside else _DEPTH_OUTSIDE


@contextmanager
def _listed(path: Path, beneath: Beneath) -> Iterator[tuple[Opened, list[os.DirEntry[str]]]]:
    """Open and list a directory; its entries can be asked while it is open.

    Raises OSError, LinkRefusedError.
    """
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(beneath.open(path))
        except LinkRefusedError:
            raise
        except ArchiveError as exc:  # a pipe or a device now
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from exc
        with os.scandir(opened.descriptor) as entries:
            found = list(entries)
        yield opened, found


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a layout directory, and the names in it that may not be followed."""

    root: Path
    beneath: Beneath
    refused: set[str]

    def below(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        with _listed(self.root / prefix, self.beneath) as (opened, entries):
            entries.sort(key=lambda entry: entry.name)
            found = [(prefix + e.name, self._stat(prefix, e, opened)) for e in entries]
            is_deepest = prefix.count("/") >= _deepest(opened)
        for name, status in found:
            if status is None:
                continue
            if stat.S_ISREG(status.st_mode):
                yield name, status
            elif stat.S_ISDIR(status.st_mode) and not is_deepest:
                yield from self._below(name)

    def _below(self, name: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            yield from self.below(name + "/")
        except LinkRefusedError:  # exchanged since it was judged
            self.refused.add(name)

    def _stat(
        self, prefix: str, entry: os.DirEntry[str], directory: Opened
    ) -> os.stat_result | None:
        """Returns the stat of what an entry leads to, None for what is left out."""
        is_link = entry.is_symlink()
        try:
            if directory.is_inside and not is_link:
                return entry.stat(follow_symlinks=False)
            status = self.beneath.stat_in(directory, self.root / prefix / entry.name)
        except LinkRefusedError:
            self.refused.add(prefix + entry.name)
            return None
        except OSError as exc:
            if exc.errno in _GONE:
                return None
            raise
        # `blobs` may be a link to a shared store; no other link to a directory is followed
        return None if is_link and prefix and stat.S_ISDIR(status.st_mode) else status


def _is_directory(entry: os.DirEntry[str], *, follow: bool) -> bool:
    return entry.is_dir(follow_symlinks=False) or (follow and entry.is_symlink())


def stat_key(path: Path, beneath: Beneath = ANYWHERE) -> StatKey:
    """Returns the stat key of a file, or of all the files of a directory.

    The key of a directory has the sum of the sizes, the newest times, and in place of the inode a
    digest of every name, inode, size and time. The key of a link that may not be followed is that
    of the link. Raises OSError, and LinkRefusedError if a directory on the way is such a link.
    """
    try:
        found = beneath.stat(path)
    except LinkRefusedError:
        return StatKey.of(beneath.stat_entry(path))
    if not stat.S_ISDIR(found.st_mode):
        return joined_key(path, beneath, found)
    size = mtime = ctime = 0
    hasher = hashlib.blake2b(str(found.st_ino).encode(), digest_size=8)
    refused: set[str] = set()
    for name, status in iter_files(path, beneath, refused):
        values = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        hasher.update(f"{name}\0{values}\n".encode("utf-8", "surrogateescape"))
        size += status.st_size
        mtime, ctime = max(mtime, status.st_mtime_ns), max(ctime, status.st_ctime_ns)
    for name in sorted(refused):
        hasher.update(f"{name}\0refused\n".encode("utf-8", "surrogateescape"))
    return StatKey(int.from_bytes(hasher.digest()) >> 1, size, mtime, ctime)
