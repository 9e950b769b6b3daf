"""Compares archives with the lists of checksums that lie beside them. Blocking.

What always holds: a list counts for the files of its own directory; every list that names an
archive must be right; few and small files are read to find them; an archive that ends early is
incomplete, not wrong, so its digest is only computed once all of it was read.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from airside.archive.beneath import Beneath
from airside.archive.formats.checksums import (
    LONGEST_BYTES,
    Checksum,
    is_checksums_name,
    parse_checksums,
)
from airside.archive.formats.companions import ARCHIVE_SUFFIXES
from airside.archive.open_file import open_archive, translated_reading
from airside.archive.open_parts import open_joined, parts_at
from airside.archive.stop import Stop
from airside.archive.tar.archive_file import ArchiveFile
from airside.core.errors import (
    AirsideError,
    ChecksumMismatchError,
    StoppedError,
)
from airside.core.settings import CHUNK_BYTES

_NAMES_READ = 10_000
_LISTS_READ = 32
_TEXT_SUFFIXES = (".txt", ".asc")


@dataclass(frozen=True, slots=True)
class Listed:
    """What one list says of a file: any of these digests is right.

    `part`: the name of the part of an archive that it is about; "" for the whole archive.
    """

    list_name: str
    checksums: tuple[Checksum, ...]
    part: str = ""

    @property
    def algorithms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a for each in self.checksums for a in each.algorithms))

    def note(self) -> str:
        """Returns the note on an archive that is what the list says."""
        digests = dict.fromkeys(each.digest for each in self.checksums)
        what = f"the digest of {self.part!r:.200}" if self.part else "its digest"
        return f"{self.list_name!r:.200} lists {what}: {' or '.join(digests):.200}"


def find_listed(path: Path, beneath: Beneath) -> tuple[Listed, ...]:
    """Returns what the lists beside a file say of it; never raises for a list."""
    if beneath.is_directory(path):
        return ()
    parts, found = parts_at(path, beneath), []
    several = parts.names if parts and len(parts.names) > 1 else ()
    own = parts.whole if parts and several else path.name
    for name in _names_of_lists(path, beneath):
        checksums = [c for c in read_checksums(path.with_name(name), beneath) if c.algorithms]
        for file_name, part in ((own, ""), *((each, each) for each in several)):
            about = tuple(c for c in checksums if c.is_of(file_name, name))
            exact = tuple(c for c in about if c.name.removeprefix("./") in {file_name, ""})
            about = exact or tuple(c for c in about if not _is_elsewhere(path, c.name, beneath))
            if about:
                found.append(Listed(name, about, part))
    return tuple(found)


def _is_elsewhere(path: Path, name: str, beneath: Beneath) -> bool:
    """Returns True if a list names a file of a directory beside it, and that file is there."""
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or ".." in parts:
        return False
    try:
        beneath.stat_entry(path.parent.joinpath(*parts))
    except (OSError, ValueError, AirsideError):
        return False
    return True


def compare(path: Path, beneath: Beneath, listed: tuple[Listed, ...], stop: Stop) -> list[str]:
    """Compare a file with what lists say of it. Returns a note for each.

    Raises ChecksumMismatchError, StoppedError, NotFoundError, ArchiveUnreadableError.
    """
    digests: dict[str, str] = {}
    before = None
    for each in sorted(listed, key=lambda each: each.part):
        if each.part != before:
            of_part = (a for other in listed if other.part == each.part for a in other.algorithms)
            digests = _digests(path, each.part, beneath, set(of_part), stop)
            before = each.part
        if any(digests[a] == c.digest for c in each.checksums for a in c.algorithms):
            continue
        wanted, algorithm = each.checksums[0].digest, each.checksums[0].algorithms[0]
        raise ChecksumMismatchError(
            f"{each.list_name!r:.200} lists {algorithm} {wanted} for "
            f"{each.part or path.name!r:.200}, which has "
            f"{digests[algorithm]}: copy it again, or delete the list if it is of another version",
            path=path,
            expected=wanted,
            found=digests[algorithm],
        )
    return [each.note() for each in listed]


def read_checksums(path: Path, beneath: Beneath) -> tuple[Checksum, ...]:
    """Returns the checksums of a list; none if it is none or can't be read."""
    try:
        with open_archive(path, beneath) as file, translated_reading(path):
            if os.fstat(file.fileno()).st_size > LONGEST_BYTES:
                return ()
            data = b""
            while len(data) < LONGEST_BYTES and (chunk := file.read(LONGEST_BYTES - len(data))):
                data += chunk
    except AirsideError:
        return ()
    return parse_checksums(data, path.name)


def _names_of_lists(path: Path, beneath: Beneath) -> Iterator[str]:
    """Yields the names beside a file that may be lists: first those that are named after it."""
    try:
        with beneath.open(path.parent) as opened:
            if not stat.S_ISDIR(opened.stat().st_mode) or not opened.is_inside:
                return
            with os.scandir(opened.descriptor) as entries:
                names = [entry.name for entry in islice(entries, _NAMES_READ)]
    except (OSError, AirsideError):
        return
    names = [name for name in names if name != path.name and may_be_list(name)]
    names.sort(key=lambda name: (not name.startswith(path.name), not is_checksums_name(name), name))
    yield from names[:_LISTS_READ]


def may_be_list(name: str) -> bool:
    """Returns True if a file of this name may be a list of checksums, if it is one by content."""
    lower = name.lower()
    if name.startswith(".") or lower.endswith(ARCHIVE_SUFFIXES):
        return False
    return is_checksums_name(name) or lower.endswith(_TEXT_SUFFIXES) or "." not in name


def _digests(
    path: Path, part: str, beneath: Beneath, algorithms: set[str], stop: Stop
) -> dict[str, str]:
    """Returns the digests of an archive, or of one of its parts; reads it once."""
    if not algorithms:
        return {}
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    opened: AbstractContextManager[ArchiveFile] = (
        open_archive(path.with_name(part), beneath) if part else open_joined(path, beneath)
    )
    with opened as file, translated_reading(path):
        while chunk := file.read(CHUNK_BYTES):
            if stop():
                raise StoppedError("the import was stopped")
            for hasher in hashers.values():
                hasher.update(chunk)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}
