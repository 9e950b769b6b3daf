"""What mkfs.erofs would index wrongly is found in the headers, whatever they say."""

import tarfile
from pathlib import Path

import pytest

from airside.containerd.erofs.tar_members import check_members
from airside.core.errors import LayerRefusedError, UnusualLayerError
from support.layer_tars import entry, tar_of


def check(tmp_path: Path, *members: bytes, most: int = 100) -> None:
    path = tmp_path / "layer.tar"
    path.write_bytes(tar_of(members))
    with path.open("rb") as file:
        check_members(file, most=most)


def renumbered(header: bytes, size: bytes) -> bytes:
    """Returns a header with another size, and its checksum."""
    raw = header[:124] + size.ljust(12, b"\0") + header[136:148] + b" " * 8 + header[156:]
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


def test_a_usual_layer_passes(tmp_path: Path):
    check(tmp_path, entry("d/", tarfile.DIRTYPE), entry("d/file", data=b"x" * 700), entry("e"))


def test_a_member_of_an_unknown_type_is_refused_with_its_name(tmp_path: Path):
    with pytest.raises(LayerRefusedError, match="leaves out 'odd': type 'Z'"):
        check(tmp_path, entry("file", data=b"x"), entry("odd", b"Z"))


def test_a_sparse_member_is_refused_with_its_name(tmp_path: Path):
    records = {"GNU.sparse.major": "1", "GNU.sparse.name": "holes"}
    with pytest.raises(LayerRefusedError, match="'holes'"):
        check(tmp_path, entry("file", pax_headers=records))


def test_more_members_than_allowed_are_refused(tmp_path: Path):
    with pytest.raises(LayerRefusedError, match="more than 2 members, at 'c'"):
        check(tmp_path, entry("a"), entry("b"), entry("c"), most=2)


def test_what_looks_like_a_size_within_another_record_is_none(tmp_path: Path):
    """Else the members behind it would be looked for at the wrong place."""
    file = entry("file", data=b"x" * 600, pax_headers={"comment": "a size=5"})
    with pytest.raises(LayerRefusedError, match="odd"):
        check(tmp_path, file, entry("odd", b"Z"))


@pytest.mark.parametrize("size", [b"-0000001000", b"+0000001000", b"1_000"])
@pytest.mark.parametrize("kind", [b"x", b"0"])
def test_a_length_that_is_no_number_ends_the_reading(tmp_path: Path, kind: bytes, size: bytes):
    with pytest.raises(UnusualLayerError, match="without a length"):
        check(tmp_path, renumbered(entry("file", kind), size))


def test_a_damaged_record_is_refused(tmp_path: Path):
    header = renumbered(entry("pax", b"x"), b"00000000020")
    with pytest.raises(LayerRefusedError, match="damaged"):
        check(tmp_path, header + b"no record at all".ljust(512, b"\0"))
