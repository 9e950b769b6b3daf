"""Turns a tar header into a member with a name and target inside the archive, or refuses it.

Pure. Headers are decoded (`tarfile.TarInfo`), with the pax and GNU records that precede them.
Everything but files, directories and links inside the archive is refused, with its name.
"""

import re
import tarfile
from dataclasses import dataclass
from enum import StrEnum

from airside.core.errors import (
    ArchiveError,
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveUnsafeError,
)
from airside.core.settings import Limits

_PAX_KEYS = frozenset({"path", "linkpath", "size"})
_FROM_ROOT = re.compile(r"/(?:[^/]+|blobs(?:/[^/]*)*)\Z")
"""Absolute names that buildpacks write: layers as `/sha256:<hex>.tar`, and whole layouts."""
_PAX_RECORD = re.compile(rb"([0-9]{1,7}) ")


def is_tar_header(block: bytes) -> bool:
    """Returns True for the header of a member: a block with a name and its own checksum."""
    try:
        return bool(tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape").name)
    except tarfile.HeaderError:
        return False


class MemberKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `name` and `target` are paths from the archive's root, without `.` or `..`.

    `target` is the path that a link points to; empty for a symlink to the root. `offset` is the
    position of the content in a seekable file, None for a stream. Only files have a size.
    """

    name: str
    kind: MemberKind
    size_bytes: int
    target: str = ""
    offset: int | None = None


def parse_pax(data: bytes) -> dict[str, str]:
    """Parse the records (`LENGTH KEY=VALUE` and a line feed) of a pax header.

    Returns only the keys that are followed. Those of a sparse file give the key `sparse`, with the
    file's real name if they have it (the member has a made-up one). Raises ArchiveFormatError for
    an invalid record, ArchiveUnsafeError for bad text.
    """
    found: dict[str, str] = {}
    position = 0
    data = data.rstrip(b"\0")
    while position < len(data):
        match = _PAX_RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1] != 0x0A:
            raise ArchiveFormatError("a pax header is damaged: a record has no valid length")
        key, equals, value = data[match.end() : end - 1].partition(b"=")
        if not equals:
            raise ArchiveFormatError("a pax header is damaged: a record has no key")
        name = key.decode("utf-8", "replace")
        if name in _PAX_KEYS:
            found[name] = name_text(value)
        elif name == "GNU.sparse.name":
            found["sparse"] = name_text(value)
        elif name.startswith("GNU.sparse."):
            found.setdefault("sparse", "")
        position = end
    return found


def name_text(raw: bytes) -> str:
    """Decode a name. Raises ArchiveUnsafeError if it is not UTF-8 or has a zero byte."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ArchiveUnsafeError(f"the name {raw[:80]!r} is not UTF-8") from exc
    if "\0" in text:
        raise ArchiveUnsafeError(f"the name {text[:80]!r} has a zero byte")
    return text


_KINDS = {
    tarfile.REGTYPE: MemberKind.FILE,
    tarfile.AREGTYPE: MemberKind.FILE,
    tarfile.CONTTYPE: MemberKind.FILE,
    tarfile.DIRTYPE: MemberKind.DIRECTORY,
    tarfile.SYMTYPE: MemberKind.SYMLINK,
    tarfile.LNKTYPE: MemberKind.HARDLINK,
}
_SPECIAL = {
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
}
_NOT_READ = {  # types of GNU tar: "Basic Tar Format" in its manual
    b"D": "a directory of an incremental backup, which is not read; write the archive without -g",
    b"M": "the rest of a file of another volume, which is not read; write one volume",
    b"V": "a volume label, which is not read; write the archive without --label",
}


def member_of(info: tarfile.TarInfo, extended: dict[str, str], limits: Limits) -> Member | None:
    """Returns the member of a header; None for the root directory itself, which is no member.

    Raises ArchiveFormatError, ArchiveUnsafeError, ArchiveLimitError, each with `member`.
    """
    raw = extended.get("path") or info.name
    try:
        kind = _kind_of(info, extended, raw)
        if kind is MemberKind.DIRECTORY and not raw.strip("/"):
            return None  # Python's tarfile writes `/` for arcname=""
        name = _resolve([], raw, f"the member {raw[:80]!r}", limits, follow=False)
        if not name and kind is MemberKind.DIRECTORY:
            return None
        if not name:
            raise ArchiveFormatError("a member has no name")
        if kind is MemberKind.FILE:
            return Member(name, kind, _size_of(info, extended, name, limits))
        if kind is MemberKind.DIRECTORY:
            return Member(name, kind, 0)
        return Member(name, kind, 0, _target_of(info, extended, name, limits))
    except ArchiveError as exc:
        exc.add_context(member=raw[:200])
        raise


def _target_of(info: tarfile.TarInfo, extended: dict[str, str], name: str, limits: Limits) -> str:
    """Returns a link's target: a symlink's is relative to its directory, a hard link's to the root.

    Raises ArchiveUnsafeError, ArchiveFormatError, ArchiveLimitError.
    """
    link = extended.get("linkpath") or info.linkname
    if link.startswith("/"):
        raise ArchiveUnsafeError(
            f"the link {name!r} to {link[:80]!r} has an absolute path, as in the files of a "
            "container, which are no image: use `docker save`, not `docker export`"
        )
    base = name.split("/")[:-1] if info.issym() else []
    target = _resolve(base, link, f"the link {name!r} to {link[:80]!r}", limits, follow=True)
    if not link or (info.islnk() and not target):
        raise ArchiveFormatError(f"the link {name!r} has no target")
    return target


def _kind_of(info: tarfile.TarInfo, extended: dict[str, str], raw: str) -> MemberKind:
    if info.type == tarfile.GNUTYPE_SPARSE or "sparse" in extended:
        raise ArchiveFormatError(
            f"the member {(extended.get('sparse') or raw)[:80]!r} is a sparse file, "
            "which is not read; "
            "write the archive without --sparse"
        )
    if info.type in _SPECIAL:
        raise ArchiveUnsafeError(
            f"the member {raw[:80]!r} is {_SPECIAL[info.type]}; no image archive has one, but "
            "the files of a container have: use `docker save`, not `docker export`"
        )
    if info.type in _NOT_READ:
        raise ArchiveFormatError(f"the member {raw[:80]!r} is {_NOT_READ[info.type]}")
    kind = _KINDS.get(info.type)
    if kind is None:
        raise ArchiveFormatError(f"the member {raw[:80]!r} has the unknown type {info.type!r}")
    return kind


def _resolve(base: list[str], path: str, what: str, limits: Limits, *, follow: bool) -> str:
    """Returns `path`, relative to the directory `base`, as a path from the archive's root.

    With `follow`, `..` is allowed as long as it stays inside the archive; else it is refused.
    `what` names the member in errors. Raises ArchiveUnsafeError, ArchiveLimitError.
    """
    try:
        length = len(path.encode())
    except UnicodeEncodeError as exc:
        raise ArchiveUnsafeError(f"{what} has a name that is not UTF-8") from exc
    if length > limits.name_bytes:
        raise over_limit(f"{what} has a longer name", "name_bytes", limits)
    if path.startswith("/") and (follow or not _FROM_ROOT.match(path)):
        raise ArchiveUnsafeError(f"{what} has an absolute path")
    parts = list(base)
    for part in path.split("/"):
        if part == "..":
            if not follow or not parts:
                raise ArchiveUnsafeError(f"{what} leads outside the archive with '..'")
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def _size_of(info: tarfile.TarInfo, extended: dict[str, str], name: str, limits: Limits) -> int:
    text = extended.get("size")
    if text and not re.fullmatch(r"[0-9]{1,19}", text):
        raise ArchiveFormatError(f"the member {name!r} has no valid size: {text[:40]!r}")
    size = int(text) if text else info.size
    if size > limits.blob_bytes:
        raise over_limit(f"the member {name!r} with {size} bytes is larger", "blob_bytes", limits)
    return size


def over_limit(what: str, limit: str, limits: Limits) -> ArchiveLimitError:
    """Returns the error for an exceeded limit; `what` is the beginning of its message."""
    return ArchiveLimitError(
        f"{what} than limits.{limit} allows ({getattr(limits, limit)}); "
        "raise the limit if you trust the archive",
        limit=f"limits.{limit}",
    )


def header_number(raw: bytes) -> int | None:
    """Returns a number of a tar header, octal or base 256; None if it is neither."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes((raw[0] & 0x7F,)) + raw[1:])
        return None if raw[0] & 0x40 else value
    text = raw.strip(b" \0")
    if not text:
        return 0
    if not text.isdigit():  # `int` also takes signs, with which a reader goes back
        return None
    try:
        return int(text, 8)
    except ValueError:
        return None
