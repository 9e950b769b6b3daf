"""Reading one archive: opened, every needed byte hashed, planned, judged. Nothing is visible yet.

`read_archive` gives a `Reading` whose ingests are committed by the importer, or dropped when the
reading is closed (`airside inspect` never commits). Runs in one worker thread with small threads
of its own; looks at `stop` once per chunk.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from airside.archive.compression import (
    Compression,
    content_bytes,
    detect_compression,
    iter_decompressed,
)
from airside.archive.members import Member, MemberKind
from airside.archive.plan import Draft, Plan, Problem, ReadMember, Unpacked
from airside.archive.planner import index_may_follow, make_draft
from airside.archive.selection import restrict
from airside.archive.tarball import (
    MissingEndError,
    scan_members,
)
from airside.archive.windows import WindowBudget
from airside.config import CHUNK_BYTES, Limits, Settings
from airside.content import ContentStore
from airside.errors import (
    ArchiveError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    ArchiveUnreadableError,
    InputError,
    NotFoundError,
    StoppedError,
    UnavailableError,
)
from airside.oci.digest import Digest, new_hasher
from airside.oci.model import MANIFEST_TYPES
from airside.oci.platform import node_platform, parse_platform, select_for, select_listed
from airside.settle import StatKey
from airside.spool import Spool, Stop, check_document_size
from airside.verify import Judgement, judge

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all) of the archive's file."""

_HEAD_BYTES = 4096


class ArchiveStore(ContentStore, Protocol):
    """A content store that can say beforehand whether so many bytes fit."""

    def check_space(self, needed_bytes: int) -> None:
        """Raise StorageFullError if so many bytes more do not fit."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What reading needs, the same for all archives. Thread-safe."""

    store: ArchiveStore
    settings: Settings
    windows: WindowBudget
    document: Callable[[Digest], bytes | None]


@dataclass(slots=True)
class Reading:
    """An archive read and judged. Close it: what was not committed is dropped."""

    path: Path
    key: StatKey
    compression: str
    plan: Plan
    judgement: Judgement
    spool: Spool
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        self.spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_archive(
    reader: Reader,
    path: Path,
    *,
    strict: bool,
    stop: Stop,
    progress: Progress,
    platforms: tuple[str, ...] = ("all",),
) -> Reading:
    """Read an archive. Raises ArchiveTruncatedError (incomplete), other InputError (rejected),
    ArchiveUnreadableError, UnavailableError, NotFoundError, StoreError, StoppedError.
    """  # noqa: D205 - the errors are the point
    with open_archive(path) as file, ExitStack() as stack:
        found = os.fstat(file.fileno())
        spool = stack.enter_context(
            Spool(
                reader.store,
                reader.settings.limits,
                stop,
                trust_names=reader.settings.verify == "names",
            )
        )
        notes: list[str] = []
        head = os.pread(file.fileno(), _HEAD_BYTES, 0)
        if not head:
            raise ArchiveTruncatedError(f"{path.name} is empty")
        compression = detect_compression(head)
        source = _Source(reader, file, found.st_size, spool, stop, progress, notes)
        with translated_reading(path):
            if compression is Compression.NONE:
                plan, cut = source.scan()
            else:
                plan, cut = source.stream(compression, head)
        plan = _restrict(_check_unvouched(reader, spool, plan, stop), reader.settings, platforms)
        judgement = judge(plan, _sizes(plan, spool, reader.store), strict=strict)
        _check_end(cut, judgement, notes)
        notes += _name_notes(path, compression)
        reading = Reading(
            path=path,
            key=StatKey.of(found),
            compression=compression.value,
            plan=plan,
            judgement=judgement,
            spool=spool,
            notes=[*notes, *plan.notes],
        )
        stack.pop_all()  # the reading closes the spool from here on
        return reading


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raises ArchiveUnreadableError, NotFoundError, UnavailableError."""
    with translated_reading(path):
        file = open(path, "rb", buffering=0, opener=_open_at_once)  # noqa: SIM115 - closed below
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ArchiveError(f"{path} is not a regular file", path=path)
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


@contextlib.contextmanager
def translated_reading(path: Path) -> Iterator[None]:
    """Turn an OSError about the archive into our errors."""
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFoundError(f"{path} is not there", path=path) from exc
    except PermissionError as exc:
        raise ArchiveUnreadableError(
            f"{path} cannot be read: {exc.strerror}; give the agent's user read permission",
            path=path,
        ) from exc
    except IsADirectoryError as exc:
        raise ArchiveError(f"{path} is a directory", path=path) from exc
    except OSError as exc:
        text = exc.strerror or errno.errorcode.get(exc.errno or 0, str(exc))
        raise UnavailableError(f"{path} cannot be read: {text}", path=path) from exc


@dataclass(slots=True)
class _Source:
    """The bytes of one archive on their way into a spool."""

    reader: Reader
    file: BinaryIO
    size_bytes: int
    spool: Spool
    stop: Stop
    progress: Progress
    notes: list[str]
    done_bytes: int = 0

    @property
    def limits(self) -> Limits:
        return self.reader.settings.limits

    def stream(
        self, compression: Compression, head: bytes
    ) -> tuple[Plan, ArchiveTruncatedError | None]:
        """Read a compressed tar once; the plan is made afterwards."""
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
        )
        cut: ArchiveTruncatedError | None = None
        try:
            self.spool.add_stream(chunks, self.notes)
        except MissingEndError as exc:
            cut = exc
        spool = self.spool
        draft = self._draft(frozenset(spool.members), spool.read, cut)
        return draft.assemble(spool.facts(draft.members), spool.read), cut

    def _read_at(self, count: int, offset: int) -> bytes:
        return os.pread(self.file.fileno(), count, offset)

    def _check_size(self, needed_bytes: int) -> None:
        """A damaged header may ask for any size: that is no full disk."""
        if needed_bytes > self.limits.total_bytes:
            raise ArchiveLimitError(
                f"the archive says that it decompresses to {needed_bytes} bytes; "
                f"limits.total_bytes allows {self.limits.total_bytes}",
                limit="limits.total_bytes",
            )

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self.file.read(CHUNK_BYTES):
            if self.stop():
                raise StoppedError("the import was stopped")
            self._advance(len(chunk))
            yield chunk

    def _advance(self, count: int) -> None:
        self.done_bytes += count
        self.progress(min(self.done_bytes, self.size_bytes), self.size_bytes)

    def scan(self) -> tuple[Plan, ArchiveTruncatedError | None]:
        """Read the headers of a plain tar, plan, then read what is needed."""
        scan = scan_members(self.file, limits=self.limits, notes=self.notes)
        files: dict[str, Member] = {}
        for member in scan.members:
            self.spool.links.pop(member.name, None)
            files.pop(member.name, None)
            if member.kind is MemberKind.FILE:
                files[member.name] = member
            elif member.kind is not MemberKind.DIRECTORY:
                self.spool.links[member.name] = member.target
        if scan.truncated is not None:
            raise ArchiveTruncatedError(scan.truncated)
        cut = None if scan.ended else MissingEndError("the archive has no end-of-archive blocks")
        read = self._member_reader(files)
        draft = self._draft(frozenset(files), read, cut)
        wanted = [files[name] for name in draft.members]
        self._read_members(wanted, draft.expected(read))
        return draft.assemble(self.spool.facts(draft.members), self.spool.read), cut

    def _draft(
        self, files: frozenset[str], read: ReadMember, cut: ArchiveTruncatedError | None
    ) -> Draft:
        """Plan from the documents; what is wrong with an archive that was cut is that it is cut."""
        if cut is not None and index_may_follow(files):
            raise cut
        try:
            return make_draft(
                files=files,
                links=self.spool.links,
                read=read,
                held=self.reader.document,
                nesting=self.limits.nesting,
                documents_bytes=self.limits.documents_bytes,
            )
        except InputError:
            if cut is not None:
                raise cut from None
            raise

    def _member_reader(self, files: dict[str, Member]) -> ReadMember:
        def read(name: str) -> bytes:
            member = files[name]
            check_document_size(name, member.size_bytes, self.limits)
            assert member.offset is not None
            data = os.pread(self.file.fileno(), member.size_bytes, member.offset)
            if len(data) != member.size_bytes:
                raise ArchiveTruncatedError(f"the file ends inside member {name}")
            return data

        return read

    def _read_members(self, wanted: list[Member], expected: Mapping[str, Digest]) -> None:
        total = sum(member.size_bytes for member in wanted)
        expected = {m.name: expected[m.name] for m in wanted if m.name in expected}
        self.reader.store.check_space(self._new_bytes(wanted, expected))
        self.size_bytes = total
        offsets = sorted(wanted, key=lambda m: m.offset or 0)
        self.spool.add_scanned(self.file, offsets, expected, self._advance)

    def _new_bytes(self, wanted: list[Member], expected: Mapping[str, Digest]) -> int:
        held = self.spool.is_held
        return sum(m.size_bytes for m in wanted if not held(m, expected.get(m.name)))


def _restrict(plan: Plan, settings: Settings, platforms: tuple[str, ...]) -> Plan:
    """Leave out the platforms that the archive's directory does not want."""
    if platforms == ("all",):
        return plan
    if platforms == ("node",):
        node = settings.platform
        own = parse_platform(node) if node else node_platform()
        return restrict(plan, select_for(own), f"this node ({own})")
    return restrict(plan, select_listed(platforms), ", ".join(platforms))


def _check_unvouched(reader: Reader, spool: Spool, plan: Plan, stop: Stop) -> Plan:
    """Decompress layers that only a diff ID vouches for. Wrong ones reject their manifests."""
    if reader.settings.verify_diff_ids == "never" or not plan.unvouched:
        return plan
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    wrong: set[Digest] = set()
    for layer in plan.unvouched:
        reason = _diff_id_problem(reader, spool, layer, stop, notes)
        if reason:
            wrong.add(layer.layer)
            problems.append(Problem(reason, blob=str(layer.layer)))
    rejected = {
        digest
        for digest, document in plan.documents.items()
        if document.media_type in MANIFEST_TYPES
        and any(child.digest in wrong for child in document.children)
    }
    return replace(
        plan,
        problems=(*plan.problems, *problems),
        notes=(*plan.notes, *notes),
        rejected=plan.rejected | frozenset(rejected),
    )


def _diff_id_problem(
    reader: Reader, spool: Spool, layer: Unpacked, stop: Stop, notes: dict[str, None]
) -> str:
    hasher = new_hasher(layer.diff_id.algorithm)
    try:
        with spool.open(layer.member) as file:
            compression = detect_compression(file.read(_HEAD_BYTES))
            if compression in _NOT_RUNNABLE:
                notes[
                    f"layer {layer.member} is compressed with {compression.value}: the image is "
                    "stored and served, but containerd and Docker cannot run it"
                ] = None
            file.seek(0)
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
            for chunk in iter_decompressed(
                chunks,
                compression,
                limits=reader.settings.limits,
                windows=reader.windows,
                notes=[],
                stop=stop,
            ):
                hasher.update(chunk)
    except InputError as exc:
        return f"layer {layer.member} cannot be decompressed: {exc.message}"
    found = Digest(layer.diff_id.algorithm, hasher.hexdigest())
    if found == layer.diff_id:
        return ""
    return (
        f"layer {layer.member} decompresses to {found}, the config says {layer.diff_id}: "
        "its bytes are damaged"
    )


_NOT_RUNNABLE = frozenset({Compression.LZ4, Compression.BZIP2, Compression.XZ})
"""Compressions of layers that no runtime unpacks (image-spec, layer.md: tar, gzip, zstd)."""


def _sizes(plan: Plan, spool: Spool, store: ContentStore) -> Callable[[Digest], int | None]:
    """What is held or will be: of the members, only those that the plan takes are committed."""
    brought = {digest: spool.members[name].facts for digest, name in plan.blobs.items()}

    def size_of(digest: Digest) -> int | None:
        facts = brought.get(digest)
        return facts.size_bytes if facts is not None else store.stat(digest)

    return size_of


def _check_end(cut: ArchiveTruncatedError | None, judgement: Judgement, notes: list[str]) -> None:
    """An archive without its end blocks is accepted, with a note, if nothing is missing."""
    if cut is None:
        return
    if judgement.missing or not judgement.images:
        first = judgement.problems[0].reason if judgement.problems else "no image is whole"
        raise ArchiveTruncatedError(f"{cut.message}; {first}", **cut.context)
    notes.append("the archive ends without its end-of-archive blocks; everything needed is there")


_SUFFIXES = {
    Compression.NONE: (".tar",),
    Compression.GZIP: (".gz", ".tgz"),
    Compression.ZSTD: (".zst", ".tzst", ".zstd"),
    Compression.LZ4: (".lz4", ".tlz4"),
    Compression.BZIP2: (".bz2", ".tbz", ".tbz2"),
    Compression.XZ: (".xz", ".txz"),
}
ARCHIVE_SUFFIXES = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
"""How the names of archives end."""


def _name_notes(path: Path, compression: Compression) -> list[str]:
    """A name that promises another compression is worth a note, never a failure."""
    suffix = path.suffix.lower()
    if suffix not in ARCHIVE_SUFFIXES or suffix in _SUFFIXES[compression]:
        return []
    what = "a plain tar" if compression is Compression.NONE else compression.value
    return [f"this is {what}, named {suffix}"]
