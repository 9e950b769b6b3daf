"""An archive's members, hashed and written into ingests. Nothing here becomes visible.

Two ways (design 4.6). A compressed archive is read once: one thread reads and decompresses, the
job's own thread walks the tar and hashes, one thread writes; what is needed is known afterwards.
A plain tar is scanned by its headers, so that only needed members are read, several at once.
A blob that the store holds already is hashed and not written.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Self

from airside.archive.formats.plan import Facts
from airside.archive.pipeline import ReadAhead, WriteBehind
from airside.archive.stop import Stop
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
_MEMBER_THREADS = 2


OpenMember = Callable[[Member], AbstractContextManager[Callable[[int, int], bytes]]]
"""Open a member for reading so many bytes (first) at an offset (second) in its content."""


@dataclass(slots=True)
class IngestedMember:
    """One member after reading: its bytes are in the ingest, or in the store if it has none.

    `held` is the blob of the store that it should have been. If it is not, its bytes are nowhere.
    """

    facts: Facts
    ingest: Ingest | None
    held: Digest | None = None

    @property
    def is_kept(self) -> bool:
        return self.ingest is not None or self.facts.digest == self.held


@dataclass(slots=True)
class ArchiveIngest:
    """The members of one archive by name; the last of a name wins. Discards what is not taken."""

    store: ContentStore
    limits: Limits
    stop: Stop
    trust_names: bool = False
    members: dict[str, IngestedMember] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Discard what was not taken; idempotent."""
        for spooled in self.members.values():
            if spooled.ingest is not None:
                spooled.ingest.discard()

    def facts(self, names: Iterable[str]) -> dict[str, Facts]:
        return {name: self.members[name].facts for name in names if name in self.members}

    def read(self, name: str) -> bytes:
        """Give the content of a small member. Raises ArchiveLimitError."""
        spooled = self.members[name]
        check_document_size(name, spooled.facts.size_bytes, self.limits)
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        """Open a content. Raises DigestMismatchError where damage left none, and StoreError."""
        spooled = self.members[name]
        if spooled.ingest is not None:
            return spooled.ingest.open()
        found = spooled.facts.digest
        if not spooled.is_kept:
            raise DigestMismatchError(
                f"member {name} hashes to {found}: its bytes are damaged",
                member=name,
                blob=spooled.held,
                expected=spooled.held,
                found=found,
            )
        try:
            return self.store.open(found)
        except NotFoundError as exc:
            raise BlobCollectedError(
                f"blob {found} was deleted while member {name} was read", blob=found
            ) from exc

    def ingests_of(self, names: Iterable[str]) -> list[Ingest]:
        """The ingests to commit for these members; those of held blobs have none."""
        found = (self.members[name].ingest for name in dict.fromkeys(names))
        return [ingest for ingest in found if ingest is not None]

    def add(self, name: str, spooled: IngestedMember) -> None:
        self._forget(name)
        self.members[name] = spooled

    def _forget(self, name: str) -> None:
        """The last of a name wins: drop what had it before."""
        before = self.members.pop(name, None)
        self.links.pop(name, None)
        if before is not None and before.ingest is not None:
            before.ingest.discard()

    def add_stream(self, chunks: Iterable[bytes], notes: list[str]) -> None:
        """Read a whole tar stream. Raises ArchiveError, StoreError, StoppedError."""
        with ReadAhead(chunks, self.stop) as ahead, WriteBehind() as writer:
            for member, pieces in iter_members(ahead, limits=self.limits, notes=notes):
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
    ) -> None:
        """Read these members where they are, several at once. `expected` digests may be held."""
        todo = [m for m in wanted if m.name not in self.members]
        with WriteBehind() as writer, ThreadPoolExecutor(_MEMBER_THREADS, "members") as pool:
            failed = threading.Event()

            def one(member: Member) -> None:
                try:
                    pieces = self._pread(opened, member, failed, progress)
                    self._add_member(member, pieces, writer, expected.get(member.name))
                    if not self.members[member.name].is_kept and member.name in expected:
                        pieces = self._pread(
                            opened, member, failed, _no_progress
                        )  # it is another blob
                        self._add_member(member, pieces, writer)
                except BaseException:
                    failed.set()
                    raise

            futures = [pool.submit(one, member) for member in todo]
            errors = [error for future in futures if (error := future.exception()) is not None]
            if errors:  # one that fails stops the others: what it met is told
                raise min(errors, key=lambda error: isinstance(error, StoppedError))
            writer.flush()

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
                    raise ArchiveTruncatedError(f"the file ends inside member {member.name}")
                done += len(chunk)
                progress(len(chunk))
                yield chunk

    def _add_member(
        self,
        member: Member,
        pieces: Iterable[BytesLike],
        writer: WriteBehind,
        expected: Digest | None = None,
    ) -> None:
        if member.name in self.members:  # the last of a name wins; its writes may be queued
            writer.flush()
        promised = digest_of_member(member.name)
        held = self._held(promised or expected, member.size_bytes)
        if held is not None and self.trust_names and promised == held:
            facts = Facts(held, member.size_bytes, _head(pieces))
            self.add(member.name, IngestedMember(facts, None, held))
            return
        algorithm = promised.algorithm if promised else "sha256"
        if held is not None:
            self.add(member.name, IngestedMember(_hash(pieces, algorithm), None, held))
            return
        self.add(member.name, self._ingest(pieces, algorithm, writer))

    def is_held(self, member: Member, expected: Digest | None) -> bool:
        """Whether the store holds already what this member promises to be."""
        return self._held(digest_of_member(member.name) or expected, member.size_bytes) is not None

    def _held(self, digest: Digest | None, size_bytes: int) -> Digest | None:
        if digest is None or self.store.stat(digest) != size_bytes:
            return None
        return digest

    def _ingest(
        self, pieces: Iterable[BytesLike], algorithm: str, writer: WriteBehind
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
    if size_bytes > limits.document_bytes:
        raise ArchiveLimitError(
            f"member {name} has {size_bytes} bytes, a document may have "
            f"{limits.document_bytes} (limits.document_bytes)",
            member=name,
        )


def digest_of_member(name: str) -> Digest | None:
    """The digest that a member named `blobs/<alg>/<hex>` promises."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs" or HEX_LENGTHS.get(parts[1]) != len(parts[2]):
        return None
    return Digest(parts[1], parts[2])


def _no_progress(_count: int) -> None:
    """Progress of what is read a second time."""


def _grown(head: bytes, piece: BytesLike) -> bytes:
    """The first bytes of a content so far, and those of its next piece."""
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
