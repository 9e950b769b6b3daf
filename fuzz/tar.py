"""The tar reader: a stream and a scan return the same members, and Python's tarfile agrees."""

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import BinaryIO

from airside.archive.tar.members import Member, MemberKind
from airside.archive.tar.reader import MissingEndError, iter_members, scan_members
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.oci_archive import oci_members
from airside.archive.writer.tar_stream import write_archive
from airside.core.errors import ArchiveError, ArchiveTruncatedError
from airside.core.settings import Limits
from fuzz.target import Mutate, Target, require
from support.images import HOSTILE_KINDS, hostile_tar, random_image

LIMITS = Limits(members=200, name_bytes=300, blob_bytes=1 << 33)
BLOCK = 512


@dataclass
class Read:
    """The result of a reader: members with the digests of their contents, and its error."""

    members: list[tuple[Member, str]]
    error: ArchiveError | None = None


def check(data: bytes) -> None:
    streamed = _stream(data, BLOCK * 20)
    again = _stream(data, 1 + len(data) % 700)
    require(streamed.members == again.members, "another chunking reads other members")
    require(type(streamed.error) is type(again.error), "another chunking ends differently")
    scanned = _scan(data)
    if type(streamed.error) is type(scanned.error):
        require(streamed.members == scanned.members, "a scan reads other members than a stream")
    else:
        require(False, f"a stream ends with {streamed.error!r}, a scan with {scanned.error!r}")
    if streamed.error is None:
        _compare(data, streamed.members)


def _stream(data: bytes, size: int) -> Read:
    read = Read([])
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    try:
        for member, pieces in iter_members(chunks, limits=LIMITS, notes=[]):
            hasher = hashlib.sha256()
            for piece in pieces:
                hasher.update(piece)
            read.members.append((member, hasher.hexdigest()))
    except ArchiveError as exc:
        read.error = exc
    return read


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[BinaryIO]:
    with os.fdopen(os.memfd_create("fuzz"), "w+b", buffering=0) as file:
        file.write(data)
        yield file


def _scan(data: bytes) -> Read:
    with _file(data) as file:
        try:
            scan = scan_members(file, limits=LIMITS, notes=[])
        except ArchiveError as exc:
            return Read(_before(data, exc), exc)
    error: ArchiveError | None = None
    if scan.truncated is not None:
        error = ArchiveTruncatedError(scan.truncated)
    elif not scan.ended:
        error = MissingEndError("")
    found = []
    for member in scan.members:
        require(member.offset is not None, "a scanned member has no offset")
        content = data[member.offset : member.offset + member.size_bytes]
        require(len(content) == member.size_bytes, "a scanned member is not complete")
        found.append((replace(member, offset=None), hashlib.sha256(content).hexdigest()))
    return Read(found, error)


def _before(data: bytes, error: ArchiveError) -> list[tuple[Member, str]]:
    """Returns the members of a stream, since a scan that fails returns none."""
    del error
    return _stream(data, len(data) or 1).members


def _compare(data: bytes, members: list[tuple[Member, str]]) -> None:
    """Check that `tarfile` reads the same contents and sizes, if it reads the archive at all."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            theirs = [_theirs(tar, info) for info in tar.getmembers() if info.isreg()]
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError):
        return
    ours = [(m.size_bytes, digest) for m, digest in members if m.kind is MemberKind.FILE]
    require(ours == theirs, f"tarfile reads {len(theirs)} other files than our {len(ours)}")


def _theirs(tar: tarfile.TarFile, info: tarfile.TarInfo) -> tuple[int, str]:
    file = tar.extractfile(info)
    assert file is not None
    return info.size, hashlib.sha256(file.read()).hexdigest()


# Inputs


def seeds() -> Iterator[bytes]:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield _small(form)
    yield _small(tarfile.PAX_FORMAT)[:-1024]
    image = random_image("tar", layers=1, layer_bytes=100, media="docker")
    for members in (docker_members([image.spec(("a.b/c:1",))]), oci_members([image.spec()])):
        out = io.BytesIO()
        write_archive(out, members)
        yield out.getvalue()[:16384]
    for kind in HOSTILE_KINDS:
        yield hostile_tar(kind)[:4096] + bytes(1024)


def _small(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, pax_headers={"comment": "x"}) as tar:
        for name, kind, link, data in (
            ("d/", tarfile.DIRTYPE, "", b""),
            ("./d/a", tarfile.REGTYPE, "", b"some bytes"),
            ("d/" + 60 * "long-" + "x", tarfile.REGTYPE, "", b"1" * 600),
            ("d/é", tarfile.SYMTYPE, "a", b""),
            ("l", tarfile.LNKTYPE, "d/a", b""),
            ("s", tarfile.SYMTYPE, 60 * "far/" + "x", b""),
        ):
            if form == tarfile.USTAR_FORMAT and len(name + link) > 150:
                continue
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()[:8192]


def mutate(data: bytes, rng: Random, blindly: Mutate) -> bytes:
    if rng.random() < 0.3 and len(data) >= 2 * BLOCK:
        data = _moved(data, rng)
    if rng.random() < 0.7:
        data = blindly(data)
    return with_checksums(data) if rng.random() < 0.9 else data


def _moved(data: bytes, rng: Random) -> bytes:
    """Returns the archive with one block copied to another place, or over another, or removed."""
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    taken, place = rng.choice(blocks), rng.randrange(len(blocks))
    blocks[place : place + rng.randrange(2)] = [taken] if rng.random() < 0.8 else []
    return b"".join(blocks)


def with_checksums(data: bytes) -> bytes:
    """Returns the archive with valid header checksums, as far as the sizes lead to headers."""
    out = bytearray(data)
    at = 0
    while at + BLOCK <= len(out):
        header = out[at : at + BLOCK]
        if not any(header):
            at += BLOCK
            continue
        out[at + 148 : at + 156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
        with contextlib.suppress(tarfile.HeaderError, ValueError):
            size = max(
                tarfile.TarInfo.frombuf(bytes(out[at : at + BLOCK]), "utf-8", "replace").size, 0
            )
            at += size + -size % BLOCK
        at += BLOCK
    return bytes(out)


TARGET = Target("tar", check, seeds, mutate, max_bytes=16384)
