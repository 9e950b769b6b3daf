"""Hashes an archive's members and writes them into ingests. Nothing here becomes visible.

There are two ways (ADR 0003). A compressed archive is read once: one thread reads and decompresses,
the job's own thread walks the tar and hashes, one thread writes; which members are needed is known
afterwards. Of a plain tar the headers are scanned first, so that only needed members are read,
several at once, each hashed and written by one thread (`pipeline.WriteAlong`). A blob that the
store holds already is hashed but not written.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Self

from airside.archive.early_reading import EarlyReading
from airside.archive.formats.plan import Facts
from airside.archive.formats.tables import MOST_OLDER, is_table, older_name
from airside.archive.layer_probe import LayerProbes
from airside.archive.pipeline import ReadAhead, WriteAlong, WriteBehind, Writes
from airside.archive.planning_room import PlanningRoom, PlanPlace
from airside.archive.stop import Stop, never
from airside.archive.tar.members import Member, MemberKind
from airside.archive.tar.reader import iter_members
from airside.core.errors import (
    ArchiveLimitError,
    ArchiveTruncatedError,
    BlobCollectedError,
    DigestMismatchError,
    NotFoundError,
    StoppedError,
)
from airside.core.settings import CHUNK_BYTES, Limits
from airside.oci.digest import HEX_LENGTHS, BytesLike, Digest, new_hasher
from airside.ports.content import ContentStore, Ingest

HEAD_BYTES = 16
_MEMBER_THREADS = min(max(os.cpu_count() or 1, 2), 4)
"""Members that are read at once: each has a chunk in memory."""


OpenMember = Callable[[Member], AbstractContextManager[Callable[[int, int], bytes]]]
"""Opens a member; the result reads a count of bytes at an offset in its content."""


@dataclass(slots=True)
class IngestedMember:
    """One member that was read: its bytes are in the ingest, or in the store if it has none.

    `held` is the stored blob that the member was expected to be. If the member has another digest,
    its bytes are neither in an ingest nor in the store.
    """

    facts: Facts
    ingest: Ingest | None
    held: Digest | None = None

    @property
    def has_content(self) -> bool:
        """True if the bytes of the member can be opened."""
        return self.ingest is not None or self.facts.digest == self.held


@dataclass(slots=True)
class ArchiveIngest:
    """The members of one archive by name, of which the last with a name counts.

    Closing it discards every ingest that was not committed. `trust_names` skips hashing of held
    blobs whose digest is the member's name (setting `verify`).
    """

    store: ContentStore
    limits: Limits
    stop: Stop
    trust_names: bool = False
    place: PlanPlace = field(default_factory=lambda: PlanPlace(PlanningRoom(), never))
    """The place of the archive's plan among those of others."""
    members: dict[str, IngestedMember] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    older: dict[str, int] = field(default_factory=dict)
    """By the name of a table, how many earlier versions of it there were."""
    probes: LayerProbes = field(default_factory=LayerProbes)
    early: EarlyReading | None = None
    """Gets every member that was verified and written; None: nobody unpacks early."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Discard the ingests that were not committed; idempotent."""
        if self.early is not None:
            self.early.discard()
        for member in self.members.values():
            if member.ingest is not None:
                member.ingest.discard()
        self.place.close()

    def facts(self, names: Iterable[str]) -> dict[str, Facts]:
        """Returns the facts of the named members that exist."""
        return {name: self.members[name].facts for name in names if name in self.members}

    def read(self, name: str) -> bytes:
        """Returns the content of a small member. Raises ArchiveLimitError, and as `open`."""
        member = self.members[name]
        check_document_size(name, member.facts.size_bytes, self.limits)
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        """Open the content of a member for reading; the caller closes it.

        Raises DigestMismatchError for a damaged member (no `has_content`), BlobCollectedError if
        garbage collection deleted the stored blob meanwhile, StoreError.
        """
        member = self.members[name]
        if member.ingest is not None:
            return member.ingest.open()
        found = member.facts.digest
        if not member.has_content:
            raise DigestMismatchError(
                f"member {name} hashes to {found}, not to {member.held}: its bytes are damaged",
                member=name,
                blob=member.held,
                expected=member.held,
                found=found,
            )
        try:
            return self.store.open(found)
        except NotFoundError as exc:
            raise BlobCollectedError(
                f"blob {found} was deleted while member {name} was read", blob=found
            ) from exc

    def ingests_of(self, names: Iterable[str]) -> list[Ingest]:
        """Returns the ingests to commit for these members; stored blobs have none."""
        found = (self.members[name].ingest for name in dict.fromkeys(names))
        return [ingest for ingest in found if ingest is not None]

    def add(self, name: str, member: IngestedMember) -> None:
        """Record a member, and discard an earlier one with its name."""
        self._forget(name)
        self.members[name] = member

    def _forget(self, name: str) -> None:
        """Discard the earlier member with this name: the last one counts.

        An earlier table of images is kept under another name.
        """
        before = self.members.pop(name, None)
        self.links.pop(name, None)
        if before is not None and is_table(name):
            number = self.older[name] = self.older.get(name, 0) + 1
            self.members[older_name(name, number)] = before
            before = self.members.pop(older_name(name, number - MOST_OLDER), None)
        if before is not None and before.ingest is not None:
            before.ingest.discard()

    def add_stream(self, chunks: Iterable[bytes], notes: list[str], left: list[str]) -> None:
        """Read a whole tar stream; `left` gets what of other archives follows it.

        Raises ArchiveError, StoreError, StoppedError.
        """
        with ReadAhead(chunks, self.stop) as ahead, WriteBehind() as writer:
            for member, pieces in iter_members(ahead, limits=self.limits, notes=notes, left=left):
                if member.kind is MemberKind.FILE:
                    self._add_member(member, pieces, writer)
                elif member.kind is not MemberKind.DIRECTORY:
                    writer.flush()
                    self._forget(member.name)
                    self.links[member.name] = member.target
            writer.flush()

    def add_scanned(
        self,
        opened: OpenMember,
        wanted: Iterable[Member],
        expected: Mapping[str, Digest],
        progress: Callable[[int], None],
        again: Callable[[int], None],
    ) -> None:
        """Read these members by their offsets, several at once.

        A member whose `expected` digest the store holds is hashed only. It is read again, into an
        ingest, if it turns out to be another blob. `progress` gets the sizes of chunks read,
        `again` those read a second time. Raises ArchiveError, StoreError, StoppedError.
        """
        todo = [m for m in wanted if m.name not in self.members]
        with WriteBehind() as behind, ThreadPoolExecutor(_MEMBER_THREADS, "members") as pool:
            failed = threading.Event()
            left = deque(todo)  # one for each member that is not read yet: thread-safe

            def one(member: Member) -> None:
                writer = WriteAlong(behind, lambda: len(left) < _MEMBER_THREADS)
                try:
                    pieces = self._pread(opened, member, failed, progress)
                    self._add_member(member, pieces, writer, expected.get(member.name))
                    if not self.members[member.name].has_content and member.name in expected:
                        # another blob than expected, and not written: read again to write it
                        pieces = self._pread(opened, member, failed, again)
                        self._add_member(member, pieces, writer)
                except BaseException:
                    failed.set()
                    raise
                finally:
                    left.pop()

            futures = [pool.submit(one, member) for member in todo]
            errors = [error for future in futures if (error := future.exception()) is not None]
            if errors:  # a failure stops the other threads: raise it, not their StoppedError
                raise min(errors, key=lambda error: isinstance(error, StoppedError))
            behind.flush()

    def _pread(
        self,
        opened: OpenMember,
        member: Member,
        failed: threading.Event,
        progress: Callable[[int], None],
    ) -> Iterator[bytes]:
        done = 0
        with opened(member) as read:
            while done < member.size_bytes:
                if failed.is_set() or self.stop():
                    raise StoppedError("the import was stopped")
                chunk = read(min(CHUNK_BYTES, member.size_bytes - done), done)
                if not chunk:
                    raise ArchiveTruncatedError(
                        f"the file ends inside member {member.name}, "
                        f"after {done} of its {member.size_bytes} bytes"
                    )
                done += len(chunk)
                progress(len(chunk))
                yield chunk

    def _add_member(
        self,
        member: Member,
        pieces: Iterable[BytesLike],
        writer: Writes,
        expected: Digest | None = None,
    ) -> None:
        if member.name in self.members:  # replaced; writes to its ingest may still be queued
            writer.flush()
        pieces = self.probes.watched(member.name, pieces)
        promised = digest_of_member(member.name)
        held = self._held(promised or expected, member.size_bytes)
        if held is not None and self.trust_names and promised == held:
            facts = Facts(held, member.size_bytes, _head(pieces))
            self.add(member.name, IngestedMember(facts, None, held))
            return
        algorithm = promised.algorithm if promised else "sha256"
        if held is not None:
            found = IngestedMember(_hash(pieces, algorithm), None, held)
        else:
            found = self._ingest(pieces, algorithm, writer)
        self.add(member.name, found)
        if self.early is not None and found.has_content:
            writer.after(partial(self.early.verified, found.facts, found.ingest))

    def digest_of(self, member: Member, expected: Digest | None) -> Digest | None:
        """Returns the digest that a member should have, None if that is unknown."""
        return digest_of_member(member.name) or expected

    def is_held(self, member: Member, expected: Digest | None) -> bool:
        """Returns True if the store holds the blob that the member's name or `expected` says."""
        return self._held(self.digest_of(member, expected), member.size_bytes) is not None

    def _held(self, digest: Digest | None, size_bytes: int) -> Digest | None:
        """Returns the digest if the store holds the blob, and not with wrong bytes.

        Where names are trusted the stored bytes are too.
        """
        if digest is None or self.store.stat(digest) != size_bytes:
            return None
        return digest if self.trust_names or self.store.is_right(digest) else None

    def _ingest(
        self, pieces: Iterable[BytesLike], algorithm: str, writer: Writes
    ) -> IngestedMember:
        ingest = self.store.ingest(algorithm)
        try:
            head = b""
            for piece in pieces:
                head = _grown(head, piece)
                ingest.hash(piece)
                writer.write(ingest, piece)
            writer.finish(ingest)
        except BaseException:
            writer.abandon()
            ingest.discard()
            raise
        return IngestedMember(Facts(ingest.digest, ingest.size_bytes, head), ingest)


def check_document_size(name: str, size_bytes: int, limits: Limits) -> None:
    """Raise ArchiveLimitError for a member that is too large to be a document in memory."""
    if size_bytes > limits.document_bytes:
        raise ArchiveLimitError(
            f"member {name} has {size_bytes} bytes; a document may have at most "
            f"{limits.document_bytes} (limits.document_bytes)",
            member=name,
        )


def digest_of_member(name: str) -> Digest | None:
    """Returns the digest in the name of a member `blobs/<alg>/<hex>`; None for other names.

    The layout may be in a directory of the archive.
    """
    parts = name.split("/")[-3:]
    if len(parts) != 3 or parts[0] != "blobs" or HEX_LENGTHS.get(parts[1]) != len(parts[2]):
        return None
    return Digest(parts[1], parts[2])


def _grown(head: bytes, piece: BytesLike) -> bytes:
    """Extend the first HEAD_BYTES of a content by its next piece."""
    return head if len(head) == HEAD_BYTES else head + bytes(piece[: HEAD_BYTES - len(head)])


def _head(pieces: Iterable[BytesLike]) -> bytes:
    for piece in pieces:
        return bytes(piece[:HEAD_BYTES])
    return b""


def _hash(pieces: Iterable[BytesLike], algorithm: str) -> Facts:
    hasher, size, head = new_hasher(algorithm), 0, b""
    for piece in pieces:
        head = _grown(head, piece)
        hasher.update(piece)
        size += len(piece)
    return Facts(Digest(algorithm, hasher.hexdigest()), size, head)
