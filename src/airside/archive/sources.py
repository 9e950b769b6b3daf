"""Sources of an archive's bytes: a tar, plain or compressed, or a directory. Blocking.

Each source reads the needed members into the ingest, and returns the plan. A compressed tar is read
once. Of a plain tar and of a directory only needed members are read, several at once (ADR 0003).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from airside.archive.beneath import ANYWHERE, Beneath
from airside.archive.directory import iter_files
from airside.archive.early_reading import BeginEarly
from airside.archive.formats.detect import index_may_follow, make_draft
from airside.archive.formats.docker import DockerDraft
from airside.archive.formats.docker_manifest import MANIFEST_JSON
from airside.archive.formats.index_json import INDEX_JSON
from airside.archive.formats.joined import JoinedDraft
from airside.archive.formats.oci_layout import LayoutDraft, blob_member
from airside.archive.formats.plan import Draft, Plan, ReadMember
from airside.archive.formats.tables import (
    MOST_OLDER,
    View,
    draft_views,
    is_table,
    older_name,
    views_of,
)
from airside.archive.formats.unsupported import describe_storage
from airside.archive.ingest import ArchiveIngest, OpenMember, check_document_size
from airside.archive.layer_probe import IMPORT_BYTES
from airside.archive.open_file import open_archive, translated_reading
from airside.archive.planning_room import PlanningRoom
from airside.archive.stop import Stop
from airside.archive.tar.archive_file import ArchiveFile, read_at
from airside.archive.tar.compression import Compression, content_bytes, iter_decompressed
from airside.archive.tar.headers import MissingEndError
from airside.archive.tar.members import Member, MemberKind
from airside.archive.tar.reader import scan_members
from airside.archive.tar.window_budget import WindowBudget
from airside.core.errors import (
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    InputError,
    ManifestInvalidError,
    StoppedError,
)
from airside.core.problem import Problem
from airside.core.settings import CHUNK_BYTES, Limits, Settings
from airside.core.timeline import stage
from airside.oci.digest import Digest
from airside.ports.content import ContentStore

Progress = Callable[[int, int], None]
"""Called with (bytes done, total bytes) of the archive."""


class ArchiveStore(ContentStore, Protocol):
    """A content store that checks the free space before a large write."""

    def check_space(self, needed_bytes: int) -> None:
        """Raises StorageFullError if `needed_bytes` more bytes do not fit."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The dependencies of reading, the same for all archives. Thread-safe.

    `document` returns a document that the catalog holds, or None.
    """

    store: ArchiveStore
    settings: Settings
    windows: WindowBudget
    document: Callable[[Digest], bytes | None]
    plans: PlanningRoom = field(default_factory=PlanningRoom)
    probe_bytes: int | None = IMPORT_BYTES
    """Decompressed bytes of layers of one archive that are checked; None: all."""
    early: BeginEarly = tuple
    """Returns the runtimes that may unpack layers while an archive is read."""


@dataclass(slots=True)
class _Source:
    """An archive whose bytes are read into an ingest."""

    reader: Reader
    size_bytes: int
    ingest: ArchiveIngest
    stop: Stop
    progress: Progress
    notes: list[str]
    done_bytes: int = field(default=0, kw_only=True)

    @property
    def limits(self) -> Limits:
        return self.reader.settings.limits

    def _advance(self, count: int) -> None:
        self.done_bytes += count
        self.progress(min(self.done_bytes, self.size_bytes), self.size_bytes)

    def _reread(self, count: int) -> None:
        """Counts bytes that are read a second time: there is more to do than the size said."""
        self.size_bytes += count
        self._advance(count)

    def _draft(
        self, views: list[View], read: ReadMember, cut: ArchiveTruncatedError | None
    ) -> Draft:
        """Plan from the documents. For a truncated archive, raises `cut` in place of any problem.

        A missing or half document is then a consequence of the truncation.
        """
        if cut is not None and index_may_follow(views[-1].files):
            raise cut
        place = self.ingest.place
        try:
            with stage("plan"):
                return place.draft(
                    self.limits,
                    lambda allowance: draft_views(
                        views,
                        lambda files, links, read: make_draft(
                            files=files,
                            links=links,
                            read=read,
                            held=place.reserving(self.reader.document),
                            allowance=allowance,
                        ),
                        place.reserving(read),
                    ),
                )
        except InputError:
            if cut is not None:
                raise cut from None
            raise

    def _assemble(self, draft: Draft) -> Plan:
        with self.ingest.place.planning(), stage("judge"):
            read = self.ingest.place.reserving(self.ingest.read)
            return draft.assemble(self.ingest.facts(draft.members), read)

    def _expected(self, draft: Draft, read: ReadMember) -> Mapping[str, Digest]:
        with self.ingest.place.planning(), stage("plan"):
            return draft.expected(self.ingest.place.reserving(read))

    def _read_members(
        self, opened: OpenMember, wanted: list[Member], expected: Mapping[str, Digest]
    ) -> None:
        total = sum(member.size_bytes for member in wanted)
        expected = {m.name: expected[m.name] for m in wanted if m.name in expected}
        self.reader.store.check_space(self._new_bytes(wanted, expected))
        self.size_bytes = total
        wanted = sorted(wanted, key=lambda m: m.offset or 0)
        early = self.ingest.early
        with stage("members"):
            if early is not None:
                documents, wanted = early.documents_first(wanted)
                self.ingest.add_scanned(opened, documents, expected, self._advance, self._reread)
                digest_of = self.ingest.digest_of
                wanted = early.ordered(wanted, lambda m: digest_of(m, expected.get(m.name)))
            self.ingest.add_scanned(opened, wanted, expected, self._advance, self._reread)

    def _new_bytes(self, wanted: list[Member], expected: Mapping[str, Digest]) -> int:
        held = self.ingest.is_held
        return sum(m.size_bytes for m in wanted if not held(m, expected.get(m.name)))


@dataclass(slots=True)
class TarSource(_Source):
    """A tar in an open file."""

    file: ArchiveFile

    def stream(
        self, compression: Compression, head: bytes
    ) -> tuple[Plan, ArchiveTruncatedError | None]:
        """Read a compressed tar once, then plan. Returns also the error if it lacks its end."""
        needed_bytes = content_bytes(head, compression, self._read_at, self.size_bytes)
        if needed_bytes is not None:
            self._check_size(needed_bytes)
            self.reader.store.check_space(needed_bytes)
        chunks = iter_decompressed(
            self._chunks(),
            compression,
            limits=self.limits,
            windows=self.reader.windows,
            notes=self.notes,
            stop=self.stop,
            twice=True,
        )
        cut: ArchiveTruncatedError | None = None
        left: list[str] = []
        try:
            with stage("members"):
                self.ingest.add_stream(chunks, self.notes, left)
        except MissingEndError as exc:
            cut = exc
        draft = self._draft(self._views(self.ingest.members), self.ingest.read, cut)
        return self._told(self._assemble(draft), left), cut

    def _views(self, files: Iterable[str]) -> list[View]:
        return views_of(files, self.ingest.links, self.notes)

    def _told(self, plan: Plan, left: Iterable[str]) -> Plan:
        """Returns the plan with a problem for each archive that follows and is not read."""
        more = (Problem(f"{each}: it is not read; drop it as a file of its own") for each in left)
        return replace(plan, problems=(*plan.problems, *more))

    def _read_at(self, count: int, offset: int) -> bytes:
        return read_at(self.file, count, offset)

    def _check_size(self, needed_bytes: int) -> None:
        """Raise ArchiveLimitError before the check of free space.

        A damaged header may claim any size; that must not be reported as a full disk.
        """
        if needed_bytes > self.limits.total_bytes:
            raise ArchiveLimitError(
                f"the header of the archive says that it decompresses to {needed_bytes} bytes; "
                f"limits.total_bytes allows {self.limits.total_bytes}",
                limit="limits.total_bytes",
            )

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self.file.read(CHUNK_BYTES):
            if self.stop():
                raise StoppedError("the import was stopped")
            self._advance(len(chunk))
            yield chunk

    def scan(self) -> tuple[Plan, ArchiveTruncatedError | None]:
        """Read the headers of a plain tar, plan, then read the needed members.

        Returns also the error if the tar lacks its end.
        """
        with stage("headers"):
            scan = scan_members(self.file, limits=self.limits, notes=self.notes)
        files: dict[str, Member] = {}
        for member in scan.members:
            self.ingest.links.pop(member.name, None)
            self._forget(files, member.name)
            if member.kind is MemberKind.FILE:
                files[member.name] = member
            elif member.kind is not MemberKind.DIRECTORY:
                self.ingest.links[member.name] = member.target
        if scan.truncated is not None:
            raise ArchiveTruncatedError(scan.truncated)
        cut = None if scan.ended else MissingEndError("the archive has no end-of-archive blocks")
        read = self._member_reader(files)
        draft = self._draft(self._views(files), read, cut)
        wanted = [files[name] for name in draft.members]
        self._read_members(self._open_member, wanted, self._expected(draft, read))
        return self._told(self._assemble(draft), scan.left), cut

    def _forget(self, files: dict[str, Member], name: str) -> None:
        """Drop the earlier member with this name; an earlier table of images is kept."""
        before = files.pop(name, None)
        if before is not None and is_table(name):
            number = self.ingest.older[name] = self.ingest.older.get(name, 0) + 1
            kept = older_name(name, number)
            files[kept] = replace(before, name=kept)
            files.pop(older_name(name, number - MOST_OLDER), None)

    def _member_reader(self, files: dict[str, Member]) -> ReadMember:
        def read(name: str) -> bytes:
            member = files[name]
            check_document_size(name, member.size_bytes, self.limits)
            assert member.offset is not None
            data = read_at(self.file, member.size_bytes, member.offset)
            if len(data) != member.size_bytes:
                raise ArchiveTruncatedError(f"the file ends inside member {name}")
            return data

        return read

    def _open_member(self, member: Member) -> AbstractContextManager[Callable[[int, int], bytes]]:
        start, file = member.offset, self.file
        assert start is not None
        return nullcontext(lambda count, offset: read_at(file, count, start + offset))


@dataclass(slots=True)
class DirectorySource(_Source):
    """A layout as a directory.

    A directory has no end marker. Absent or short files and an `index.json` that is not valid JSON
    mean ArchiveTruncatedError as long as no image is complete: it may still be copied.
    """

    root: Path
    beneath: Beneath = ANYWHERE
    refused: set[str] = field(default_factory=set, init=False)
    """Names from which a link may not be followed."""

    def scan(self) -> tuple[Plan, ArchiveTruncatedError | None]:
        """List the files, plan, then read the needed ones.

        Returns also the error to raise if no image is complete.
        """
        files = self._files()
        for name in (INDEX_JSON, MANIFEST_JSON):
            if name in self.refused:
                raise self.beneath.refusal(self.root / name)
        if not {INDEX_JSON, MANIFEST_JSON} & files.keys():
            storage = describe_storage([f"{self.root}/blobs/"])
            if storage:
                raise ArchiveFormatError(storage)
            raise ArchiveTruncatedError(f"the directory {self.root.name} has no {INDEX_JSON} yet")
        try:
            draft = self._draft(_one_view(files), self._reader_of(files), None)
            short = _too_short(draft, files)
            if short:
                files = {name: member for name, member in files.items() if name not in short}
                draft = self._draft(_one_view(files), self._reader_of(files), None)
        except ManifestInvalidError as exc:
            raise ArchiveTruncatedError(
                f"{exc.message}; the directory may still be copied"
            ) from exc
        read = self._reader_of(files)
        wanted = [files[name] for name in draft.members if name in files]
        self._read_members(self._open_member, wanted, self._expected(draft, read))
        cut = ArchiveTruncatedError(f"the directory {self.root.name} is not complete yet")
        plan = self._assemble(draft)
        return replace(plan, problems=(*self._refusals(draft), *plan.problems)), cut

    def _refusals(self, draft: Draft) -> Iterator[Problem]:
        """Yields a problem for each needed file from which a link may not be followed."""
        for name in _needed_members(draft) if self.refused else ():
            parts = name.split("/")
            if any("/".join(parts[: n + 1]) in self.refused for n in range(len(parts))):
                prefix, _, rest = name.partition("/")
                blob = rest.replace("/", ":") if prefix == "blobs" else name
                yield Problem(self.beneath.refusal(self.root / name).message, blob=blob)

    def _files(self) -> dict[str, Member]:
        files: dict[str, Member] = {}
        for name, found in iter_files(self.root, self.beneath, self.refused):
            files[name] = Member(name, MemberKind.FILE, found.st_size, offset=0)
            if len(files) > self.limits.members:
                raise ArchiveLimitError(
                    f"the directory has more than {self.limits.members} files (limits.members)",
                    limit="limits.members",
                )
        return files

    def _reader_of(self, files: Mapping[str, Member]) -> ReadMember:
        def read(name: str) -> bytes:
            check_document_size(name, files[name].size_bytes, self.limits)
            with self._open_member(files[name]) as read_at:
                return read_at(self.limits.document_bytes, 0)

        return read

    @contextmanager
    def _open_member(self, member: Member) -> Iterator[Callable[[int, int], bytes]]:
        path = self.root / member.name
        with open_archive(path, self.beneath) as file, translated_reading(path):
            yield lambda count, offset: os.pread(file.fileno(), count, offset)


def _one_view(files: Iterable[str]) -> list[View]:
    return [View(keys={name: name for name in files})]


def _needed_members(draft: Draft) -> tuple[str, ...]:
    """Returns the names of the members that the images need, present or absent."""
    if isinstance(draft, JoinedDraft):
        return tuple(name for each in draft.drafts for name in _needed_members(each))
    if isinstance(draft, DockerDraft):
        return (*draft.members, *sorted(draft.absent))
    if not isinstance(draft, LayoutDraft):
        return draft.members
    digests = dict.fromkeys(root.digest for root in draft.roots)
    for document in draft.documents.values():
        digests |= dict.fromkeys(child.digest for child in document.children)
    return tuple(blob_member(digest) for digest in digests)


def _too_short(draft: Draft, files: Mapping[str, Member]) -> set[str]:
    """Returns the blobs shorter than their descriptors say: they are still being copied."""
    if isinstance(draft, JoinedDraft):
        return {name for each in draft.drafts for name in _too_short(each, files)}
    if not isinstance(draft, LayoutDraft):
        return set()
    needed = {
        blob_member(child.digest): child.size_bytes
        for document in draft.documents.values()
        for child in document.children
    }
    return {
        name
        for name, size_bytes in needed.items()
        if name in files and files[name].size_bytes < size_bytes
    }
