"""What containerd refuses to unpack, found by the headers of a layer's tar."""

import gzip
import tarfile

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from airside.archive.layer_check import LayerCheck
from airside.archive.layer_probe import LayerProbes
from support.layer_members import END, FILE, REFUSED, TAKEN, tar_of

COMPRESSIONS = {
    "none": bytes,
    "gzip": gzip.compress,
    "gzip, two members": lambda tar: gzip.compress(tar[:700]) + gzip.compress(tar[700:]),
    "zstd": zstd.compress,
    "zstd, two frames": lambda tar: zstd.compress(tar[:700]) + zstd.compress(tar[700:]),
}


def refused(tar: bytes, step: int = 1 << 20) -> list[str]:
    check = LayerCheck()
    for at in range(0, len(tar), step):
        check.feed(memoryview(tar)[at : at + step])
    return [each.member for each in check.found]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_member_that_containerd_refuses_is_found(kind: str) -> None:
    member, name = REFUSED[kind]
    assert refused(tar_of(member)) == [name]


@pytest.mark.parametrize("kind", TAKEN)
def test_what_containerd_unpacks_is_not_reported(kind: str) -> None:
    assert refused(tar_of(TAKEN[kind])) == []


@given(st.integers(1, 1500), st.sampled_from(sorted(REFUSED)))
def test_any_chunks_give_the_same(step: int, kind: str) -> None:
    member, name = REFUSED[kind]
    assert refused(tar_of(member), step) == [name]


@given(st.integers(1, 4000), st.sampled_from(sorted(REFUSED)))
def test_what_follows_the_end_of_the_tar_is_not_looked_at(step: int, kind: str) -> None:
    member, _ = REFUSED[kind]
    assert refused(tar_of(TAKEN[min(TAKEN)]) + END + tar_of(member), step) == []


@given(st.binary(max_size=2000), st.integers(1, 600))
def test_any_bytes_are_read_without_an_error(raw: bytes, step: int) -> None:
    refused(raw, step)
    refused(FILE + raw, step)


def test_a_size_with_a_sign_ends_the_check() -> None:
    check = LayerCheck()
    check.feed(header("x", b"-0000002000\0") + FILE)
    assert check.ended


def test_an_extended_header_without_content_does_not_take_the_file_behind_it() -> None:
    check = LayerCheck()
    check.feed(header("x", b"00000000000\0", b"x") + header("large", b"00010000000\0"))
    for _ in range(4):
        check.feed(bytes(1 << 19))
    check.feed(REFUSED["gnu-sparse"][0])
    assert [each.member for each in check.found] == [REFUSED["gnu-sparse"][1]]


def test_a_size_of_thousands_of_digits_is_no_size() -> None:
    record = b"5014 size=" + b"9" * 5003 + b"\n"
    pax = header("x", b"%011o\0" % len(record), b"x") + record + bytes(-len(record) % 512)
    assert refused(pax + header("file", b"00000000000\0") + REFUSED["gnu-sparse"][0])


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A header of a tar whose field of the size has these bytes."""
    block = bytearray(tarfile.TarInfo(name).tobuf())
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("empty", [gzip.compress(b"", mtime=0), zstd.compress(b"")])
def test_frames_without_content_use_up_the_room(empty: bytes) -> None:
    probes = LayerProbes(room_bytes=1 << 20)
    raw = empty * 1000
    assert list(probes.watched("layer", [raw])) == [raw]
    assert probes.room_bytes is not None
    assert probes.room_bytes < 0


@pytest.mark.parametrize("pack", COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("step", [7, 1 << 20])
def test_layers_are_checked_in_passing_however_they_are_compressed(pack, step) -> None:
    raw = pack(tar_of(FILE * 20 + REFUSED["gnu-sparse"][0]))
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    probes = LayerProbes()
    assert b"".join(probes.watched("layer", pieces)) == raw
    assert [each.member for each in probes.found["layer"]] == ["var/sparse"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_an_import_decompresses_no_more_than_its_room(pack) -> None:
    raw = pack(FILE + bytes(0) + REFUSED["gnu-sparse"][0] + END)
    probes = LayerProbes(room_bytes=1000)
    assert list(probes.watched("layer", [raw])) == [raw]
    assert probes.found == {}
    assert list(LayerProbes(None).watched("layer", [raw])) == [raw]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_damaged_layer_is_for_others_to_report(pack) -> None:
    raw = bytearray(pack(tar_of(REFUSED["gnu-sparse"][0]) * 50))
    raw[len(raw) // 2 :] = b"damaged" * 10
    assert b"".join(LayerProbes().watched("layer", [bytes(raw)])) == raw


def test_a_member_that_is_replaced_is_checked_again() -> None:
    probes = LayerProbes()
    list(probes.watched("layer", [tar_of(REFUSED["gnu-sparse"][0])]))
    list(probes.watched("layer", [tar_of(b"")]))
    assert probes.found == {}
