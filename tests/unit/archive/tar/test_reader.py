import gzip
import io
import random
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.archive.tar.compression import Compression, iter_decompressed
from airside.archive.tar.headers import MissingEndError
from airside.archive.tar.members import Member, MemberKind, parse_pax
from airside.archive.tar.reader import iter_members, scan_members
from airside.archive.tar.window_budget import WindowBudget
from airside.core.errors import (
    ArchiveError,
    ArchiveFormatError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    ArchiveUnreadableError,
    ArchiveUnsafeError,
)
from airside.core.settings import CHUNK_BYTES, MIB, Limits

FILE, DIRECTORY = MemberKind.FILE, MemberKind.DIRECTORY
LONG = "d" * 120 + "/" + "n" * 150
END = bytes(1024)
Read = list[tuple[Member, bytes]]


def info(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def packed(member: tarfile.TarInfo, content: bytes = b"", form: int = tarfile.GNU_FORMAT) -> bytes:
    """One member: header, content, padding."""
    if content:
        member.size = len(content)
    return member.tobuf(form) + content + bytes(-len(content) % 512)


def file(name: str, content: bytes = b"abc") -> bytes:
    return packed(info(name), content)


def with_field(block: bytes, start: int, field: bytes) -> bytes:
    """Replace bytes of a header and make its checksum right again."""
    header = bytearray(block[:512])
    header[start : start + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + block[512:]


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return packed(info("pax", type=kind), records)


def record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + 1
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def read(
    chunks: bytes | Iterable[bytes],
    limits: Limits | None = None,
    notes: list[str] | None = None,
    into: Read | None = None,
) -> Read:
    got: Read = [] if into is None else into
    parts = [chunks] if isinstance(chunks, bytes) else chunks
    members = iter_members(parts, limits=limits or Limits(), notes=[] if notes is None else notes)
    for member, content in members:
        got.append((member, b"".join(content)))
    return got


def refused(data: bytes, error: type[ArchiveError], limits: Limits | None = None) -> ArchiveError:
    with pytest.raises(error) as caught:
        read(data, limits)
    assert caught.type is error
    return caught.value


def scan(tmp_path: Path, data: bytes, limits: Limits | None = None, notes=None):
    path = tmp_path / "scanned.tar"
    path.write_bytes(data)
    with path.open("rb") as handle:
        return scan_members(handle, limits=limits or Limits(), notes=[] if notes is None else notes)


SMALL = (
    packed(info("./blobs/", type=tarfile.DIRTYPE))
    + file("blobs/one", b"1" * 700)
    + file(LONG, b"long")
    + packed(info("blobs/link", type=tarfile.SYMTYPE, linkname="../top"))
    + packed(info("hard", type=tarfile.LNKTYPE, linkname="./blobs/one"))
    + file("empty", b"")
)
SMALL_MEMBERS = [
    (Member("blobs", DIRECTORY, 0), b""),
    (Member("blobs/one", FILE, 700), b"1" * 700),
    (Member(LONG, FILE, 4), b"long"),
    (Member("blobs/link", MemberKind.SYMLINK, 0, "top"), b""),
    (Member("hard", MemberKind.HARDLINK, 0, "blobs/one"), b""),
    (Member("empty", FILE, 0), b""),
]


# Whole archives


def test_members_come_in_order_with_their_content() -> None:
    notes: list[str] = []
    assert read(SMALL + END, notes=notes) == SMALL_MEMBERS
    assert notes == []


@given(cuts=st.lists(st.integers(0, len(SMALL + END)), max_size=12))
def test_any_chunking_gives_the_same_result(cuts: list[int]) -> None:
    whole = SMALL + END
    ends = [*sorted(cuts), len(whole)]
    chunks = [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert read(chunks) == SMALL_MEMBERS


def test_chunks_of_one_byte_give_the_same_result() -> None:
    whole = SMALL + END
    assert read(whole[i : i + 1] for i in range(len(whole))) == SMALL_MEMBERS


def test_a_scan_gives_the_same_members_and_where_their_contents_are(tmp_path: Path) -> None:
    whole = SMALL + END
    found = scan(tmp_path, whole)
    assert found.ended
    assert found.truncated is None
    for member, (streamed, content) in zip(found.members, SMALL_MEMBERS, strict=True):
        assert member.offset is not None
        assert whole[member.offset : member.offset + member.size_bytes] == content
        assert (member.name, member.kind, member.size_bytes, member.target) == (
            streamed.name,
            streamed.kind,
            streamed.size_bytes,
            streamed.target,
        )


def test_a_scan_does_not_move_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(SMALL + END)
    with path.open("rb") as handle:
        handle.seek(5)
        scan_members(handle, limits=Limits(), notes=[])
        assert handle.tell() == 5


def a_tree(tmp_path: Path, *, long_names: bool) -> dict[str, bytes]:
    rng = random.Random(3)
    names = ["top", "blobs/sha256/" + "a" * 64, "ünïcode/名前", "with space"]
    if long_names:
        names += [LONG, "/".join(["deep" * 5] * 20), "x" * 100, "y" * 101]
    contents = {name: rng.randbytes(rng.choice([0, 1, 511, 512, 513, 5000])) for name in names}
    for name, content in contents.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "tree/blobs/to-top").symlink_to("../top")
    (tmp_path / "tree/zz-hard").hardlink_to(tmp_path / "tree/top")
    return contents


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "pax", "ustar", "v7"])
def test_archives_of_gnu_tar_are_read(tmp_path: Path, form: str) -> None:
    contents = a_tree(tmp_path, long_names=form in {"gnu", "oldgnu", "pax"})
    command = ["tar", f"--format={form}", "--sort=name", "-C", str(tmp_path / "tree"), "-cf", "-"]
    made = subprocess.run([*command, "."], check=True, capture_output=True).stdout
    found = {member.name: (member, content) for member, content in read(made)}
    assert {n: c for n, (m, c) in found.items() if m.kind is FILE} == contents
    assert found["blobs/to-top"][0].target == "top"
    assert found["zz-hard"][0] == Member("zz-hard", MemberKind.HARDLINK, 0, "top")
    assert found["blobs/sha256"][0].kind is DIRECTORY
    assert "" not in found
    assert {m.name for m in scan(tmp_path, made).members} == set(found)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_python_are_read(tmp_path: Path, form: int) -> None:
    contents = a_tree(tmp_path, long_names=form != tarfile.USTAR_FORMAT)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as writer:
        writer.add(tmp_path / "tree", ".")
    found = {member.name: (member, content) for member, content in read(made.getvalue())}
    assert {n: c for n, (m, c) in found.items() if m.kind is FILE} == contents
    assert found["blobs/to-top"][0].target == "top"


def test_global_pax_headers_are_passed_over() -> None:
    data = pax(record("comment", b"a commit"), tarfile.XGLTYPE) + file("a") + END
    assert [m.name for m, _ in read(data)] == ["a"]


def test_a_pax_header_gives_name_target_and_size() -> None:
    records = record("path", b"new/name") + record("size", b"5") + record("mtime", b"1.5")
    data = pax(records) + packed(info("old")) + b"12345" + bytes(507)
    link = pax(record("linkpath", b"new/name")) + packed(
        info("l", type=tarfile.SYMTYPE, linkname="x")
    )
    assert read(data + link + END) == [
        (Member("new/name", FILE, 5), b"12345"),
        (Member("l", MemberKind.SYMLINK, 0, "new/name"), b""),
    ]


@pytest.mark.parametrize("kind", [b"0", b"\0", b"7"])
def test_all_types_of_plain_files_are_files(kind: bytes) -> None:
    assert read(packed(info("a", type=kind), b"x") + END) == [(Member("a", FILE, 1), b"x")]


def test_the_times_that_old_gnu_tar_puts_in_the_prefix_are_no_name() -> None:
    data = with_field(file("a"), 345, b"14012345670\x0014012345671\0")
    assert read(data + END)[0][0].name == "a"


def test_names_are_normalised_and_the_root_itself_is_no_member() -> None:
    for root in ("./", "/"):  # Python's tarfile writes `/` for `add(directory, arcname="")`
        data = packed(info(root, type=tarfile.DIRTYPE)) + file(".//a/./b//c") + END
        assert [m.name for m, _ in read(data)] == ["a/b/c"]


def test_content_that_is_not_read_is_skipped_and_can_not_be_read_later() -> None:
    members = iter_members([file("a", b"x" * 5000) + file("b") + END], limits=Limits(), notes=[])
    _, stale = next(members)
    member, content = next(members)
    assert member.name == "b"
    assert b"".join(content) == b"abc"
    assert list(content) == []
    with pytest.raises(RuntimeError):
        next(stale)


def test_content_comes_in_slices_of_the_chunks_without_copies() -> None:
    chunk = file("a", b"x" * (2 * CHUNK_BYTES)) + END
    for _, content in iter_members([chunk], limits=Limits(), notes=[]):
        slices = list(content)
        assert [len(s) for s in slices] == [CHUNK_BYTES, CHUNK_BYTES]
        assert all(s.obj is chunk for s in slices)


def test_a_file_that_the_system_does_not_let_us_read_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(SMALL)
    with path.open("ab") as handle, pytest.raises(ArchiveUnreadableError):
        scan_members(handle, limits=Limits(), notes=[])


# Ends


def test_no_truncation_is_accepted_as_whole() -> None:
    whole = SMALL + END
    for end in range(len(SMALL) + 512):
        got: Read = []
        with pytest.raises(ArchiveTruncatedError) as caught:
            read(whole[:end], into=got)
        assert got == SMALL_MEMBERS[: len(got)]
        if caught.type is MissingEndError:
            assert end % 512 == 0


def test_a_scan_of_a_cut_archive_gives_the_members_that_are_whole(tmp_path: Path) -> None:
    whole = SMALL + END
    path = tmp_path / "cut.tar"
    path.write_bytes(whole)
    full = scan(tmp_path, whole).members
    with path.open("r+b") as handle:
        for end in range(len(SMALL) + 511, -1, -7):
            handle.truncate(end)
            found = scan_members(handle, limits=Limits(), notes=[])
            assert found.members == full[: len(found.members)]
            assert not found.ended
            assert found.truncated is not None or end % 512 == 0
            assert all((m.offset or 0) + m.size_bytes <= end for m in found.members)


def test_an_end_between_members_is_told_apart_after_all_members_were_given(
    tmp_path: Path,
) -> None:
    got: Read = []
    with pytest.raises(MissingEndError):
        read(SMALL, into=got)
    assert got == SMALL_MEMBERS
    found = scan(tmp_path, SMALL)
    assert (len(found.members), found.ended, found.truncated) == (6, False, None)


def test_a_cut_content_names_the_member_and_what_is_missing() -> None:
    error = refused(file("a", b"x" * 600)[: 512 + 100], ArchiveTruncatedError)
    assert error.context["member"] == "a"
    assert error.context["offset"] == "612"
    assert "500 bytes" in error.message


def test_a_cut_padding_names_the_member() -> None:
    error = refused(file("a", b"x" * 600)[: 512 + 700], ArchiveTruncatedError)
    assert error.context["member"] == "a"
    assert "324 bytes" in error.message


def test_an_extended_header_without_its_member_is_truncated_or_damaged() -> None:
    data = pax(record("path", b"a"))
    refused(data, ArchiveTruncatedError)
    refused(data + END, ArchiveFormatError)


def test_an_empty_file_is_truncated(tmp_path: Path) -> None:
    refused(b"", ArchiveTruncatedError)
    found = scan(tmp_path, b"")
    assert (found.members, found.ended) == ([], False)
    assert found.truncated


def test_one_zero_block_at_the_end_is_an_end_with_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    assert read(SMALL + bytes(512), notes=notes) == SMALL_MEMBERS
    assert len(notes) == 1
    assert scan(tmp_path, SMALL + bytes(512)).ended


def test_a_second_zero_block_that_is_cut_is_truncated() -> None:
    refused(SMALL + bytes(512 + 100), ArchiveTruncatedError)


def test_a_zero_block_before_other_data_is_damage() -> None:
    refused(file("a") + bytes(512) + file("b") + END, ArchiveFormatError)


@pytest.mark.parametrize(("rest", "count"), [(bytes(8192), 0), (b"junk", 1), (bytes(99) + b"x", 1)])
def test_other_bytes_after_the_end_are_a_note(tmp_path: Path, rest: bytes, count: int) -> None:
    notes: list[str] = []
    assert read(SMALL + END + rest, notes=notes) == SMALL_MEMBERS
    assert len(notes) == count
    notes = []
    assert scan(tmp_path, SMALL + END + rest, notes=notes).ended
    assert len(notes) == count


def unpacked(data: bytes, notes: list[str]) -> Iterable[bytes]:
    return iter_decompressed(
        [data], Compression.GZIP, limits=Limits(), windows=WindowBudget(MIB), notes=notes
    )


def test_bytes_after_the_compressed_data_are_a_note_if_the_tar_had_ended() -> None:
    notes: list[str] = []
    data = gzip.compress(SMALL + END) + b"trailing"
    assert read(unpacked(data, notes), notes=notes) == SMALL_MEMBERS
    assert len(notes) == 1


def test_bytes_after_the_compressed_data_are_an_error_if_the_tar_had_not_ended() -> None:
    for cut in (SMALL, SMALL[:1500]):
        with pytest.raises(ArchiveFormatError):
            read(unpacked(gzip.compress(cut) + b"trailing", []))


def test_damage_after_the_end_of_the_tar_is_found() -> None:
    damaged = bytearray(gzip.compress(SMALL + END))
    damaged[-6] ^= 1
    with pytest.raises(ArchiveFormatError):
        read(unpacked(bytes(damaged), []))
    with pytest.raises(ArchiveTruncatedError):
        read(unpacked(bytes(damaged[:-8]), []))


def test_damage_in_compressed_data_names_the_member() -> None:
    content = random.Random(1).randbytes(300_000)
    data = gzip.compress(file("big", content) + END)
    with pytest.raises(ArchiveTruncatedError) as caught:
        read(unpacked(data[:200_000], []))
    assert caught.value.context["member"] == "big"


# Damage


def shape(got: Read) -> list[tuple[str, int, MemberKind, str]]:
    return [(m.name, m.size_bytes, m.kind, m.target) for m, _ in got]


@pytest.mark.parametrize(
    "member",
    [
        file("name", b"content"),
        packed(info("ünï"), b"content"),
        packed(info("l", type=tarfile.SYMTYPE, linkname="target")),
        with_field(file("a", b"x"), 124, b"\x80" + bytes(10) + b"\x01"),
    ],
    ids=["file", "high bytes", "symlink", "base-256"],
)
def test_no_flipped_header_bit_changes_a_name_size_or_kind_unnoticed(member: bytes) -> None:
    before = shape(read(member + END))
    for bit in range(512 * 8):
        damaged = bytearray(member + END)
        damaged[bit // 8] ^= 1 << (bit % 8)
        try:
            got = read(bytes(damaged))
        except ArchiveError:
            continue
        assert shape(got) == before, bit


@given(position=st.integers(0, len(SMALL) - 1), value=st.integers(1, 255))
def test_no_mutated_byte_changes_the_list_of_members_unnoticed(position: int, value: int) -> None:
    damaged = bytearray(SMALL + END)
    damaged[position] ^= value
    try:
        got = read(bytes(damaged))
    except ArchiveError:
        return
    long_name = SMALL.index(b"d" * 120)
    if not long_name <= position < long_name + 512:  # contents of a long name have no checksum
        assert shape(got) == shape(SMALL_MEMBERS)


def test_a_damaged_header_tells_where_it_is_and_after_which_member(tmp_path: Path) -> None:
    damaged = bytearray(file("a") + file("b") + END)
    damaged[1024 + 3] ^= 1
    error = refused(bytes(damaged), ArchiveFormatError)
    assert error.context["offset"] == "1024"
    assert error.context["after"] == "a"
    with pytest.raises(ArchiveFormatError):
        scan(tmp_path, bytes(damaged))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x7fELF" + bytes(range(256)) * 3, "ELF"),
        (b"<!DOCTYPE html><html>" + b"a page" * 200, "HTML"),
        (b'{"layers": []}' + b" " * 600, "JSON"),
        (b"\xfd7zXZ\x00" + b"x" * 600, "xz"),
        (gzip.compress(b"twice", mtime=0), "gzip"),
        (b"070701" + b"0" * 600, "cpio"),
        (b"\x12\x34" + b"x" * 600, "12 34"),
    ],
)
def test_a_file_that_is_no_tar_is_told_by_what_it_looks_like(data: bytes, found: str) -> None:
    error = refused(data, ArchiveFormatError)
    assert found in error.message
    assert "not a tar archive" in error.message


# Hostile members


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=["char", "block", "fifo"]
)
def test_devices_and_fifos_are_refused(kind: bytes) -> None:
    error = refused(packed(info("dev/x", type=kind)) + END, ArchiveUnsafeError)
    assert error.context["member"] == "dev/x"


@pytest.mark.parametrize("name", ["/etc/passwd", "/", "../x", "a/../../x", "a/..", ".."])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    for data in (file(name), pax(record("path", name.encode())) + file("ok")):
        error = refused(data + END, ArchiveUnsafeError)
        assert error.context["member"] == name
        with pytest.raises(ArchiveUnsafeError):
            scan(tmp_path, data + END)


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        (tarfile.SYMTYPE, "a/link", "../../outside"),
        (tarfile.SYMTYPE, "link", ".."),
        (tarfile.SYMTYPE, "link", "/etc/passwd"),
        (tarfile.SYMTYPE, "a/link", "x/../../../y"),
        (tarfile.LNKTYPE, "a/b/link", "../x"),
        (tarfile.LNKTYPE, "link", "/etc/passwd"),
    ],
)
def test_links_that_lead_outside_are_refused(kind: bytes, name: str, target: str) -> None:
    data = packed(info(name, type=kind, linkname=target))
    error = refused(data + END, ArchiveUnsafeError)
    assert error.context["member"] == name
    long = pax(record("linkpath", target.encode())) + packed(info(name, type=kind, linkname="x"))
    refused(long + END, ArchiveUnsafeError)


@pytest.mark.parametrize(
    ("name", "target", "resolved"),
    [
        ("a/b/link", "../c/layer.tar", "a/c/layer.tar"),
        ("a/link", "..", ""),
        ("link", "./x/", "x"),
    ],
)
def test_links_that_stay_inside_are_resolved(name: str, target: str, resolved: str) -> None:
    data = packed(info(name, type=tarfile.SYMTYPE, linkname=target))
    assert read(data + END)[0][0].target == resolved


def test_links_without_a_target_are_refused() -> None:
    refused(packed(info("l", type=tarfile.SYMTYPE)) + END, ArchiveFormatError)
    refused(packed(info("l", type=tarfile.LNKTYPE, linkname="./")) + END, ArchiveFormatError)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (f"/sha256:{'ab' * 32}.tar", f"sha256:{'ab' * 32}.tar"),
        ("/index.json", "index.json"),
        ("/blobs/sha256/x", "blobs/sha256/x"),
    ],
)
def test_names_from_the_root_are_those_that_buildpacks_write(name: str, found: str) -> None:
    assert [member.name for member, _ in read(file(name) + END)] == [found]


@pytest.mark.parametrize("name", ["//x", "/blobs/../x", "/blobsy/x", "/.."])
def test_other_names_from_the_root_are_refused(name: str) -> None:
    refused(file(name) + END, ArchiveUnsafeError)


def test_members_without_a_name_are_refused() -> None:
    refused(file("./") + END, ArchiveFormatError)


def test_names_with_a_zero_byte_or_no_utf8_are_refused() -> None:
    for value in (b"a\0b", b"a\xffb"):
        refused(pax(record("path", value)) + file("ok") + END, ArchiveUnsafeError)
    refused(with_field(file("a"), 0, b"a\xff") + END, ArchiveUnsafeError)


def test_sparse_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "holes"
    with path.open("wb") as handle:
        handle.truncate(4 * MIB)
        handle.write(b"x")
    for form in ("--format=gnu", "--format=pax"):
        made = subprocess.run(
            ["tar", form, "--sparse", "-C", str(tmp_path), "-cf", "-", "holes"],
            check=True,
            capture_output=True,
        ).stdout
        error = refused(made, ArchiveFormatError)
        assert "'holes' is a sparse file" in error.message
        assert "holes" in error.context["member"]


def test_unknown_types_are_refused() -> None:
    refused(packed(info("what", type=b"Q")) + END, ArchiveFormatError)


@pytest.mark.parametrize(
    ("kind", "found"), [(b"V", "volume label"), (b"M", "another volume"), (b"D", "incremental")]
)
def test_what_gnu_tar_alone_writes_is_refused_by_name(kind: bytes, found: str) -> None:
    error = refused(packed(info("what", type=kind)) + END, ArchiveFormatError)
    assert found in error.message


@pytest.mark.parametrize(
    "size", [b"\xff" * 12, b"-0000000010\0", b"+0000000010\0", b"0_0000000010"]
)
def test_sizes_that_are_none_are_refused(size: bytes) -> None:
    refused(with_field(file("a"), 124, size) + END, ArchiveFormatError)


@pytest.mark.parametrize("size", [b"-1", b"1_0", b"0x10", b"1" * 30])
def test_pax_sizes_that_are_none_are_refused(size: bytes) -> None:
    refused(pax(record("size", size)) + file("a") + END, ArchiveFormatError)


def test_a_base_256_size_is_read() -> None:
    data = with_field(file("a", b"xyz"), 124, b"\x80" + bytes(10) + b"\x03")
    assert read(data + END) == [(Member("a", FILE, 3), b"xyz")]


@pytest.mark.parametrize(
    "records",
    [
        b"path=a\n",
        b"99 path=a\n",
        b"9 path=a\nx",
        b"0 path=a\n",
        b"7 patha\n",
        b"10 path=ab",
        b"3 \n",
    ],
)
def test_pax_headers_that_are_damaged_are_refused(records: bytes) -> None:
    with pytest.raises(ArchiveFormatError):
        parse_pax(records)


@given(
    st.dictionaries(st.sampled_from(["path", "linkpath", "size"]), st.text("aé/=\n1", min_size=1))
)
def test_pax_records_are_read_as_they_were_written(values: dict[str, str]) -> None:
    data = b"".join(record(key, value.encode()) for key, value in values.items())
    assert parse_pax(data) == values


@given(st.binary(max_size=60))
def test_pax_headers_of_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_pax(data)
    except ArchiveError:
        return


# Limits


def test_more_members_than_the_limit_are_refused(tmp_path: Path) -> None:
    data = packed(info("d", type=tarfile.DIRTYPE)) * 101 + END
    assert len(read(data, Limits(members=101))) == 101
    error = refused(data, ArchiveLimitError, Limits(members=100))
    assert error.context["limit"] == "limits.members"
    with pytest.raises(ArchiveLimitError):
        scan(tmp_path, data, Limits(members=100))


def test_a_name_that_is_too_long_is_refused() -> None:
    for data in (file("n" * 60), file("n" * 300), pax(record("path", b"n" * 60)) + file("a")):
        error = refused(data + END, ArchiveLimitError, Limits(name_bytes=50))
        assert error.context["limit"] == "limits.name_bytes"
    assert read(file("n" * 300) + END, Limits(name_bytes=300))[0][0].name == "n" * 300


def test_a_file_that_is_too_large_is_refused() -> None:
    error = refused(file("a", b"x" * 11) + END, ArchiveLimitError, Limits(blob_bytes=10))
    assert error.context["limit"] == "limits.blob_bytes"
    assert error.context["member"] == "a"


def test_an_extended_header_that_is_too_large_is_refused() -> None:
    huge = pax(record("comment", b"x" * (MIB + 1))) + file("a")
    refused(huge + END, ArchiveLimitError)


def test_endless_extended_headers_are_refused() -> None:
    refused(pax(record("comment", b"x")) * 17 + file("a") + END, ArchiveFormatError)


def test_the_names_of_an_archive_have_a_limit_together():
    data = b"".join(file(f"{number}{'n' * 90}") for number in range(50))
    assert len(read(data + END, Limits(headers_bytes=5_000))) == 50
    error = refused(data + END, ArchiveLimitError, Limits(headers_bytes=3_000))
    assert error.context["limit"] == "limits.headers_bytes"
