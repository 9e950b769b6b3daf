"""The layer writer on small layers, without containerd."""

import contextlib
import itertools
import mmap
import os
import struct
import tarfile
import threading
from pathlib import Path

import pytest

from airside.containerd.layer_writer.target import LayerLimits, Target
from airside.containerd.layer_writer.write import Written, write_layer
from airside.core.errors import LayerRefusedError, UnusualLayerError


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> bytes:
    """Returns one member: its headers and its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(data), 1_700_000_000
    info.uid, info.gid = os.geteuid(), os.getegid()
    for field, value in fields.items():
        setattr(info, field, value)
    header = info.tobuf(tarfile.PAX_FORMAT)
    return header + data + bytes(-len(data) % 512)


def layer(*members: bytes) -> memoryview:
    return memoryview(b"".join(members) + bytes(1024))


def written(
    directory: Path, tar: memoryview | mmap.mmap, limits: LayerLimits | None = None
) -> Written:
    upper = os.open(directory, os.O_RDONLY)
    try:
        return write_layer(tar, Target(upper), limits or LayerLimits())
    finally:
        os.close(upper)


def test_files_directories_and_links_have_the_attributes_of_their_headers(tmp_path: Path) -> None:
    tar = layer(
        entry("etc/", tarfile.DIRTYPE, mode=0o2751),
        entry("etc/passwd", data=b"root", mode=0o640, pax_headers={"mtime": "1.000000002"}),
        entry("./sh", tarfile.SYMTYPE, linkname="etc/passwd"),
    )
    assert written(tmp_path, tar) == Written(entries=3, content_bytes=4)
    assert (tmp_path / "etc/passwd").read_bytes() == b"root"
    found = (tmp_path / "etc/passwd").stat()
    assert (found.st_mode, found.st_mtime_ns) == (0o100640, 1_000_000_002)
    assert (tmp_path / "etc").stat().st_mode == 0o42751
    assert (tmp_path / "etc").stat().st_mtime == 1_700_000_000
    assert (tmp_path / "sh").readlink() == Path("etc/passwd")


def test_of_two_members_with_one_name_the_later_stays(tmp_path: Path) -> None:
    written(tmp_path, layer(entry("a", data=b"1"), entry("a", tarfile.SYMTYPE, linkname="b")))
    assert (tmp_path / "a").readlink() == Path("b")


def test_a_link_to_the_outside_leads_to_the_root_of_the_layer(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / str(outside)[1:]).mkdir(parents=True)
    link = entry("out", tarfile.SYMTYPE, linkname=str(outside))
    written(root, layer(link, entry("out/file", data=b"1")))
    assert list(outside.iterdir()) == []
    assert (root / str(outside)[1:] / "file").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../a", "a/../../b", ".."])
def test_a_name_that_leads_out_is_left_to_containerd(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnusualLayerError) as caught:
        written(tmp_path, layer(entry("first"), entry(name)))
    assert "leads out" in caught.value.message


def test_a_layer_that_ends_early_is_refused_by_the_name_of_its_member(tmp_path: Path) -> None:
    with pytest.raises(LayerRefusedError, match="'long'"):
        written(tmp_path, layer(entry("long", data=b"x" * 4000))[:1500])


def test_a_limit_is_told_with_the_member_that_breaks_it(tmp_path: Path) -> None:
    tar = layer(entry("one"), entry("two"))
    with pytest.raises(LayerRefusedError) as caught:
        written(tmp_path, tar, LayerLimits(entries=1))
    assert caught.value.context["member"] == "'two'"


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(entry("a"))
    damaged[3] ^= 1
    with pytest.raises(LayerRefusedError, match="checksum"):
        written(tmp_path, layer(entry("first"), bytes(damaged)))


def test_a_map_can_be_closed_after_an_error_in_a_header(tmp_path: Path) -> None:
    (tmp_path / "tar").write_bytes(layer(entry("a", pax_headers={"size": "none"})))
    with (tmp_path / "tar").open("rb") as file, pytest.raises(UnusualLayerError):  # noqa: SIM117
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as tar:
            written(tmp_path, tar)


def test_a_directory_that_gives_its_access_control_list_to_files_is_left_to_containerd(
    tmp_path: Path,
) -> None:
    entries = b"".join(struct.pack("<HHI", tag, 7, 2**32 - 1) for tag in (0x01, 0x04, 0x20))
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", struct.pack("<I", 2) + entries)
    except OSError as exc:
        pytest.skip(f"the file system has no access control lists: {exc.strerror}")
    with pytest.raises(UnusualLayerError, match="access control"):
        written(tmp_path, layer(entry("a")))


def test_nothing_is_written_outside_while_directories_turn_into_links(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    tar = layer(*(entry(f"{a}/{b}/{n}", data=b"x") for n in range(60) for a in "ab" for b in "cd"))
    ended = threading.Event()

    def swap() -> None:
        names = itertools.cycle(["a", "b", "a/c", "b/d"])
        for number, name in enumerate(names):
            if ended.is_set():
                return
            aside = tmp_path / f"aside-{number}"
            with contextlib.suppress(OSError):
                (root / name).rename(aside)
                (root / name).symlink_to(outside)
                (root / name).unlink()
                aside.rename(root / name)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for number in range(8):
            root.mkdir()
            with contextlib.suppress(UnusualLayerError):
                written(root, tar)
            root.rename(tmp_path / f"done-{number}")
    finally:
        ended.set()
        swapping.join()
    assert list(outside.iterdir()) == []
