"""Reads one archive: opens it, hashes every needed byte, plans and judges. Nothing is visible yet.

`read_archive` returns a `Reading`. The importer commits its ingests; closing the reading discards
the others (`airside inspect` never commits). Runs in one worker thread with small threads of its
own, and calls `stop` once per chunk.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from airside.archive.beneath import ANYWHERE, Beneath
from airside.archive.chart_source import ChartSource, is_chart
from airside.archive.completeness import Judgement, first_absent, judge, name_clashes
from airside.archive.directory import stat_key
from airside.archive.early_reading import begin_early
from airside.archive.formats.image_list import is_tar
from airside.archive.formats.other_files import HEAD_BYTES as OTHER_HEAD_BYTES
from airside.archive.formats.other_files import describe_other
from airside.archive.formats.plan import PackedLayer, Plan, not_runnable_note
from airside.archive.formats.platforms import restrict
from airside.archive.formats.records import check_records
from airside.archive.formats.shared_names import settle_names
from airside.archive.ingest import ArchiveIngest
from airside.archive.layer_probe import LayerProbes
from airside.archive.node_remarks import node_remarks
from airside.archive.open_file import translated_reading
from airside.archive.open_parts import open_joined
from airside.archive.planning_room import PlanPlace
from airside.archive.sources import DirectorySource, Progress, Reader, TarSource
from airside.archive.staging import stage
from airside.archive.stat_key import StatKey
from airside.archive.stop import Stop
from airside.archive.tar.archive_file import ArchiveFile, key_of, read_at, size_of
from airside.archive.tar.compression import Compression, detect_compression, iter_decompressed
from airside.core.errors import ArchiveFormatError, ArchiveTruncatedError, InputError
from airside.core.problem import Problem
from airside.core.settings import CHUNK_BYTES, Settings
from airside.oci.digest import Digest, new_hasher
from airside.oci.model import MANIFEST_TYPES, Descriptor
from airside.oci.platform import (
    Platform,
    node_platform,
    parse_platform,
    select_for,
    select_listed,
)
from airside.ports.content import ContentStore

DIRECTORY = "directory"
"""Shown in place of the compression, for a layout that is not packed in a tar."""
_HEAD_BYTES = 4096


@dataclass(slots=True)
class Reading:
    """An archive that was read and judged. Closing it discards the ingests that were not committed.

    `copied` is true if it was read from a staged copy, so that later changes of the file at `path`
    do not matter.
    """

    path: Path
    key: StatKey
    compression: str
    plan: Plan
    judgement: Judgement
    ingest: ArchiveIngest
    notes: list[str] = field(default_factory=list)
    remarks: tuple[str, ...] = ()
    """The notes on what this node does with the images."""
    copied: bool = False
    beneath: Beneath = ANYWHERE

    def imported(self) -> None:
        """Tells the runtimes that unpack early that the import is committed."""
        if self.ingest.early is not None:
            self.ingest.early.keep()

    def close(self) -> None:
        self.ingest.close()

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
    copy: bool = False,
    beneath: Beneath = ANYWHERE,
) -> Reading:
    """Read and judge an archive; with `copy`, from a staged copy of its file.

    `beneath`: where its path, and the links of a layout directory, may lead. Raises
    ArchiveTruncatedError (incomplete), other InputError (rejected), ArchiveUnreadableError,
    UnavailableError, NotFoundError, StoreError, StoppedError.
    """
    with ExitStack() as stack:
        ingest = stack.enter_context(
            ArchiveIngest(
                reader.store,
                reader.settings.limits,
                stop,
                trust_names=reader.settings.verify == "names",
                place=PlanPlace(reader.plans, stop),
                probes=LayerProbes(reader.probe_bytes),
                early=begin_early(reader.store, _node(reader.settings), reader.early()),
            )
        )
        notes: list[str] = []
        is_directory = beneath.is_directory(path)
        read = _read_directory if is_directory else _read_copy if copy else _read_file
        place = _Place(path, beneath)
        key, compression, plan, cut = read(reader, place, ingest, stop, progress, notes)
        check_records(plan, reader.settings.limits)
        plan = settle_names(plan)
        absent = first_absent(plan)
        plan = _check_packed_layers(reader, ingest, plan, stop)
        plan = _restrict(plan, reader.settings, platforms)
        judgement = judge(plan, _sizes(plan, ingest, reader.store), strict=strict)
        if compression == DIRECTORY:
            _check_directory(cut, plan, judgement)
        else:
            _check_end(cut, judgement, absent, notes)
        remarks = _remarks(reader.settings, ingest, plan, judgement)
        reading = Reading(
            path=path,
            key=key,
            compression=compression,
            plan=plan,
            judgement=judgement,
            ingest=ingest,
            notes=[*notes, *plan.notes, *name_clashes(plan), *remarks],
            remarks=remarks,
            copied=copy and not is_directory,
            beneath=beneath,
        )
        stack.pop_all()  # from here on, the reading closes the ingest
        return reading


@dataclass(frozen=True, slots=True)
class _Place:
    """An archive's path, and where it may lead."""

    path: Path
    beneath: Beneath


_Read = tuple[StatKey, str, Plan, ArchiveTruncatedError | None]
"""Stat key, compression, plan, and the error to raise if something is missing."""


def _read_file(
    reader: Reader,
    place: _Place,
    ingest: ArchiveIngest,
    stop: Stop,
    progress: Progress,
    notes: list[str],
) -> _Read:
    path = place.path
    with open_joined(path, place.beneath, notes) as file, translated_reading(path):
        key = key_of(file)
        return key, *_read_open(reader, path, file, ingest, stop, progress, notes)


def _read_copy(
    reader: Reader,
    place: _Place,
    ingest: ArchiveIngest,
    stop: Stop,
    progress: Progress,
    notes: list[str],
) -> _Read:
    path = place.path
    with open_joined(path, place.beneath, notes) as original, translated_reading(path):
        key = key_of(original)
        copy = stage(original, reader.store, stop, progress)
    try:
        with copy.open() as file:
            second_half = _after(progress, key.size_bytes)
            return key, *_read_open(reader, path, file, ingest, stop, second_half, notes)
    finally:
        copy.discard()


def _after(progress: Progress, before: int) -> Progress:
    return lambda done, total: progress(before + done, before + total)


def _read_open(
    reader: Reader,
    path: Path,
    file: ArchiveFile,
    ingest: ArchiveIngest,
    stop: Stop,
    progress: Progress,
    notes: list[str],
) -> tuple[str, Plan, ArchiveTruncatedError | None]:
    size_bytes = size_of(file)
    head = read_at(file, _HEAD_BYTES, 0)
    if not head:
        raise ArchiveTruncatedError(f"{path.name} is empty")
    compression = detect_compression(head)
    if compression is Compression.NONE and not is_tar(head):
        other = describe_other(read_at(file, OTHER_HEAD_BYTES, 0))
        if other:
            raise ArchiveFormatError(other, path=path)
    if compression is Compression.GZIP and is_chart(head):
        chart = ChartSource(reader, size_bytes, ingest, stop, progress, notes, file=file)
        return compression.value, chart.store(), None
    source = TarSource(reader, size_bytes, ingest, stop, progress, notes, file=file)
    if compression is Compression.NONE:
        plan, cut = source.scan()
    else:
        plan, cut = source.stream(compression, head)
    plan = replace(plan, notes=(*_name_notes(path, compression), *plan.notes))
    return compression.value, plan, cut


def _read_directory(
    reader: Reader,
    place: _Place,
    ingest: ArchiveIngest,
    stop: Stop,
    progress: Progress,
    notes: list[str],
) -> _Read:
    path, beneath = place.path, place.beneath
    with translated_reading(path):
        key = stat_key(path, beneath)
        source = DirectorySource(
            reader, key.size_bytes, ingest, stop, progress, notes, root=path, beneath=beneath
        )
        plan, cut = source.scan()
        return key, DIRECTORY, plan, cut


def _restrict(plan: Plan, settings: Settings, platforms: tuple[str, ...]) -> Plan:
    """Drop the platforms that the archive's watched directory does not select."""
    if platforms == ("all",):
        return plan
    if platforms == ("node",):
        own = _node(settings)
        return restrict(plan, select_for(own), f"this node ({own})")
    return restrict(plan, select_listed(platforms), ", ".join(platforms))


def _remarks(
    settings: Settings, ingest: ArchiveIngest, plan: Plan, judgement: Judgement
) -> tuple[str, ...]:
    found = ingest.probes.found
    refused = {digest: found[name] for digest, name in plan.blobs.items() if name in found}
    return node_remarks(plan, judgement, _node(settings), settings.other_platforms, refused)


def _node(settings: Settings) -> Platform:
    return parse_platform(settings.platform) if settings.platform else node_platform()


def _check_packed_layers(reader: Reader, ingest: ArchiveIngest, plan: Plan, stop: Stop) -> Plan:
    """Decompress the layers that only a diff ID verifies. A wrong one rejects its manifests."""
    if reader.settings.verify_diff_ids == "never" or not plan.packed_layers:
        return plan
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    wrong: set[Digest] = set()
    for layer in plan.packed_layers:
        reason = _diff_id_problem(reader, ingest, layer, stop, notes)
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
    reader: Reader, ingest: ArchiveIngest, layer: PackedLayer, stop: Stop, notes: dict[str, None]
) -> str:
    hasher = new_hasher(layer.diff_id.algorithm)
    try:
        with ingest.open(layer.member) as file:
            compression = detect_compression(file.read(_HEAD_BYTES))
            note = not_runnable_note(layer.member, compression.value)
            if note:
                notes[note] = None
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
        f"layer {layer.member} decompresses to {found}; the config says {layer.diff_id}: "
        "its bytes are damaged"
    )


def _sizes(
    plan: Plan, ingest: ArchiveIngest, store: ContentStore
) -> Callable[[Digest], int | None]:
    """Sizes of the blobs that the plan commits or the store holds already; no other members."""
    planned = {digest: len(raw) for digest, raw in plan.made.items()}
    planned |= {d: ingest.members[name].facts.size_bytes for d, name in plan.blobs.items()}

    def size_of(digest: Digest) -> int | None:
        size = planned.get(digest)
        return size if size is not None else store.stat(digest)

    return size_of


def _check_directory(cut: ArchiveTruncatedError | None, plan: Plan, judgement: Judgement) -> None:
    """Raise ArchiveTruncatedError if no image of a directory is complete: it may still be copied.

    A directory has no end marker, so complete images are imported at once. Damage is not reported
    as truncation, since more files do not repair it.
    """
    if cut is not None and judgement.missing and not judgement.images and not plan.problems:
        raise ArchiveTruncatedError(f"{cut.message}: {judgement.problems[0].reason}")


def _check_end(
    cut: ArchiveTruncatedError | None,
    judgement: Judgement,
    absent: Descriptor | None,
    notes: list[str],
) -> None:
    """Accept an archive without its end blocks, with a note, only if nothing is missing.

    Raises ArchiveTruncatedError also for a platform that its index lists but the archive lacks:
    that may be the part that was cut off.
    """
    if cut is None:
        return
    if judgement.missing or not judgement.images:
        first = judgement.problems[0].reason if judgement.problems else "no image is complete"
        raise ArchiveTruncatedError(f"{cut.message}; {first}", **cut.context)
    if absent is not None:
        what = f"{absent.platform} ({absent.digest})" if absent.platform else str(absent.digest)
        raise ArchiveTruncatedError(
            f"{cut.message}; its index lists {what}, which the archive lacks", **cut.context
        )
    notes.append("the archive ends without its end-of-archive blocks, but lacks nothing else")


_SUFFIXES = {
    Compression.NONE: (".tar",),
    Compression.GZIP: (".gz", ".tgz"),
    Compression.ZSTD: (".zst", ".tzst", ".zstd"),
    Compression.LZ4: (".lz4", ".tlz4"),
    Compression.BZIP2: (".bz2", ".tbz", ".tbz2"),
    Compression.XZ: (".xz", ".txz"),
}
ARCHIVE_SUFFIXES = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
"""Suffixes of the names of archives."""


def _name_notes(path: Path, compression: Compression) -> list[str]:
    """Returns a note if the suffix belongs to another compression; that is never an error."""
    suffix = path.suffix.lower()
    if suffix not in ARCHIVE_SUFFIXES or suffix in _SUFFIXES[compression]:
        return []
    what = "a plain tar" if compression is Compression.NONE else compression.value
    return [f"the file is {what}, although its name ends in {suffix}"]
