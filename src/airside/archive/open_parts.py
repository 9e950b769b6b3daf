"""Opens an archive, whole or in parts that are read as one file without a copy. Blocking.

An archive in parts goes by the path of its first part. Its stat key is that of all of them, so that
a part that comes or changes makes it another version.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from airside.archive.beneath import ANYWHERE, Beneath
from airside.archive.formats.parts import Parts, chunk_of, part_of, parts_among
from airside.archive.open_file import open_archive, translated_reading
from airside.archive.stat_key import StatKey
from airside.archive.tar.archive_file import ArchiveFile, JoinedFile
from airside.core.errors import (
    AirsideError,
    ArchiveError,
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    LinkRefusedError,
)

_NAMES_READ = 10_000
_MOST_PARTS = 250
"""Parts that are open at once, for a process that may open a thousand files."""
_HEADER_BYTES = 4096


def parts_at(path: Path, beneath: Beneath = ANYWHERE) -> Parts | None:
    """Returns the parts that an archive is in; None for a whole file. Never raises."""
    if part_of(path.name) is None:
        return None
    try:
        with beneath.open(path.parent) as opened:
            if not opened.is_inside:
                return None
            with os.scandir(opened.descriptor) as entries:
                names = [
                    e.name
                    for e in islice(entries, _NAMES_READ)
                    if not e.is_dir(follow_symlinks=False)
                ]
    except (OSError, AirsideError):
        return None
    return parts_among(path.name, names)


def first_part(path: Path, beneath: Beneath = ANYWHERE) -> Path:
    """Returns the path by which an archive goes: of one in parts, that of the first there."""
    parts = parts_at(path, beneath)
    return path.with_name(parts.names[0]) if parts else path


def joined_key(path: Path, beneath: Beneath, found: os.stat_result) -> StatKey:
    """Returns the stat key of a file, or of all parts if it is the first of several.

    Raises OSError, LinkRefusedError.
    """
    parts = parts_at(path, beneath)
    if parts is None or len(parts.names) < 2:
        return StatKey.of(found)
    return _key_of_parts(path, parts, beneath)


def _key_of_parts(path: Path, parts: Parts, beneath: Beneath) -> StatKey:
    hasher, size, mtime, ctime = hashlib.blake2b(digest_size=8), 0, 0, 0
    for name in parts.names[:_MOST_PARTS]:
        try:
            status = _stat(path.with_name(name), beneath)
        except FileNotFoundError:  # deleted since it was listed, or a link to nothing
            hasher.update(f"{name}\0absent\n".encode("utf-8", "surrogateescape"))
            continue
        values = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        hasher.update(f"{name}\0{values}\n".encode("utf-8", "surrogateescape"))
        size += status.st_size
        mtime, ctime = max(mtime, status.st_mtime_ns), max(ctime, status.st_ctime_ns)
    return StatKey(int.from_bytes(hasher.digest()) >> 1, size, mtime, ctime)


def _stat(path: Path, beneath: Beneath) -> os.stat_result:
    """Returns the stat of a part, or of a link that may not be followed: opening it tells that."""
    try:
        return beneath.stat(path)
    except LinkRefusedError:
        return beneath.stat_entry(path)


@contextmanager
def open_joined(
    path: Path, beneath: Beneath, notes: list[str] | None = None
) -> Iterator[ArchiveFile]:
    """Open an archive for reading, the parts of one as one file; the context closes them.

    An ArchiveTruncatedError from the context names the part that is missing. Raises
    ArchiveTruncatedError if one is missing between others, and as `open_archive`.
    """
    parts = parts_at(path, beneath)
    if parts is None:
        with _advised(path, beneath), open_archive(path, beneath) as file:
            yield file
        return
    with ExitStack() as stack:
        with translated_reading(path):
            key = joined_key(path, beneath, beneath.stat(path))
        parts = _described(path, parts, beneath)
        if parts.missing and len(parts.names) > 1:
            raise _missing(parts, parts.missing)
        names = parts.names
        if len(names) > _MOST_PARTS:
            raise ArchiveLimitError(
                f"{parts.whole!r:.200} is in {len(names)} parts; at most {_MOST_PARTS} are read: "
                "join them with `cat`, or split it into larger ones"
            )
        files = [stack.enter_context(open_archive(path.with_name(n), beneath)) for n in names]
        if notes is not None and len(names) > 1:
            notes.append(f"read from {len(names)} parts, {names[0]!r:.200} to {names[-1]!r:.200}")
        try:
            yield JoinedFile(files, key)
        except ArchiveTruncatedError as exc:
            raise _missing(parts, parts.missing or (parts.next_name,), exc) from exc
        except ArchiveFormatError as exc:
            if not parts.missing:
                raise
            raise _missing(parts, parts.missing, exc) from exc


@contextmanager
def _advised(path: Path, beneath: Beneath) -> Iterator[None]:
    """Adds to the reason why a whole file can't be read that it may be a part."""
    try:
        yield
    except (ArchiveTruncatedError, ArchiveFormatError) as exc:
        chunk = chunk_of(path.name)
        if chunk is None:
            raise
        try:
            _stat(path.with_name(chunk.neighbour), beneath)
        except (OSError, AirsideError):
            raise exc from None
        raise type(exc)(f"{exc.message}; {chunk.advice:.300}", **exc.context) from exc


def _described(path: Path, parts: Parts, beneath: Beneath) -> Parts:
    """Returns the parts that hold the archive: zarf's first one only says how many follow."""
    first = path.with_name(parts.names[0])
    with open_archive(first, beneath) as file, translated_reading(first):
        if os.fstat(file.fileno()).st_size > _HEADER_BYTES:
            return parts
        head = os.pread(file.fileno(), _HEADER_BYTES, 0)
    if not head.startswith(b"{"):
        return parts
    try:
        count = json.loads(head)["count"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return parts
    if not isinstance(count, int) or not 0 < count <= _MOST_PARTS:
        return parts
    return parts.without_first(count)


def _missing(
    parts: Parts, missing: Sequence[str], exc: ArchiveError | None = None
) -> ArchiveTruncatedError:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    text = (
        f"a part of {parts.whole!r:.200} is missing: {missing[0]!r:.200}{more}; "
        f"{len(parts.names)} of its parts are here"
    )
    if exc is None:
        return ArchiveTruncatedError(text)
    return ArchiveTruncatedError(f"{text} ({exc.message})", **exc.context)
