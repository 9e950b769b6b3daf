"""The process that makes an index: what it may do, and what it may take."""

import io
import tarfile
from pathlib import Path

import pytest

from airside.containerd.erofs import image
from airside.containerd.erofs.tar_index import NOBODY, IndexLimits, make_index
from airside.containerd.erofs.unlisted_directories import mend_directories
from airside.core.errors import LayerRefusedError, StoppedError, UnusualLayerError
from airside.core.settings import MIB
from support import erofs

pytestmark = pytest.mark.needs("setpriv", "unshare")

UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as out:
        for number in range(2000):
            out.addfile(tarfile.TarInfo(f"file-{number}"), io.BytesIO())
    return path


def listed(tar: Path, *names: str) -> Path:
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as out:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type, member.mode = (
                (tarfile.DIRTYPE, 0o710) if name.endswith("/") else (tarfile.REGTYPE, 0o644)
            )
            out.addfile(member, io.BytesIO())
    return tar


def root_entries(made: bytearray) -> dict[bytes, int]:
    """Returns the names in the root of an index, with where their entries lie."""
    [(_, root), *_] = image.Image(made).walk()
    begin = root.tail_offset if root.tail_offset >= 0 else root.first_block * 512
    block = made[begin : begin + root.size_bytes]
    count = int.from_bytes(block[8:10], "little") // 12
    offsets = [int.from_bytes(block[n * 12 + 8 : n * 12 + 10], "little") for n in range(count)]
    ends = [*offsets[1:], len(block)]
    return {
        bytes(block[at:end]).rstrip(b"\0"): begin + n * 12
        for n, (at, end) in enumerate(zip(offsets, ends, strict=True))
    }


def index(program: Path, tar: Path, limits: IndexLimits | None = None, *, stop: bool = False):
    with tar.open("rb") as file:
        return make_index(str(program), file, UUID, limits or IndexLimits(), lambda: stop)


@pytest.fixture
def script():
    """Makes a program that everybody may run in place of mkfs.erofs; `$target` is the index."""
    made = erofs.scratch()

    def make(text: str) -> Path:
        path = made / "program"
        path.write_text(f"#!/bin/sh\nfor target; do :; done\n{text}\n")
        path.chmod(0o755)
        return path

    return make


def test_an_index_has_the_magic_number_and_the_uuid(tar: Path):
    made = index(erofs.programs() / "mkfs.erofs", tar)
    assert made[1024:1028] == bytes.fromhex("e2e1f5e0")
    assert made[1072:1088].hex() == UUID.replace("-", "")


def test_the_process_is_nobody_without_powers_and_without_a_network(script, tar: Path):
    said = index(script('cat /proc/self/status /proc/net/dev > "$target"'), tar).decode()
    status = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    assert status["Uid"].split() == [str(NOBODY)] * 4
    assert status["Gid"].split() == [str(NOBODY)] * 4
    capabilities = ("CapEff", "CapPrm", "CapInh", "CapAmb")
    assert {int(status[name], 16) for name in capabilities} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert [name.strip() for name in status if name.startswith((" ", "eth"))] == ["lo"]


def test_an_index_that_is_too_long_is_refused(tar: Path):
    with pytest.raises(LayerRefusedError, match="longer index"):
        index(erofs.programs() / "mkfs.erofs", tar, IndexLimits(index_bytes=4096))


def test_a_process_that_does_not_end_takes_no_more_than_its_time(script, tar: Path):
    with pytest.raises(LayerRefusedError, match="processor time"):
        index(script("while :; do :; done"), tar, IndexLimits(processor_seconds=1))


def test_it_is_ended_when_the_import_stops(script, tar: Path):
    with pytest.raises(StoppedError):
        index(script("exec sleep 600"), tar, stop=True)


def test_what_it_says_is_in_the_error(script, tar: Path):
    with pytest.raises(UnusualLayerError, match="ended with 3: no such thing"):
        index(script("echo no such thing >&2; exit 3"), tar)


def test_memory_is_limited(script, tar: Path):
    limits = IndexLimits(memory_bytes=64 * MIB, memory_bytes_per_processor=0)
    text = 'test "$(ulimit -v)" = 65536 && test "$(ulimit -c)" = 0 && echo yes > "$target"'
    assert index(script(text), tar, limits) == b"yes\n"


def test_the_process_cannot_change_the_tar_that_was_hashed(script, tar: Path):
    raw = tar.read_bytes()
    tries = "printf changed >&0 && exit 3; printf changed 1<>/proc/self/fd/0 && exit 4"
    text = f'{tries}; echo > "$target"'
    with tar.open("r+b") as file:
        file.seek(100)
        make_index(str(script(text)), file, UUID, IndexLimits(), lambda: False)
    assert tar.read_bytes() == raw


def test_a_directory_below_is_read_once_for_all_that_a_layer_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = erofs.programs() / "mkfs.erofs"
    directories = [f"d/{number}/" for number in range(200)]
    below = tmp_path / "layer.erofs"
    below.write_bytes(index(program, listed(tmp_path / "below.tar", "d/", *directories)))
    made = index(program, listed(tmp_path / "own.tar", *(f"{name}file" for name in directories)))
    read = []
    entries = image.Image._entries
    monkeypatch.setattr(
        image.Image, "_entries", lambda own, inode: read.append(inode) or entries(own, inode)
    )
    assert mend_directories(made, [str(below)], lambda: False) >= 200
    assert len(read) < 210
    found = {path: inode.attributes.mode for path, inode in image.Image(made).walk() if path}
    assert found == {tuple(n.encode().split(b"/")[:-1]): 0o710 for n in ("d/", *directories)}
    with pytest.raises(StoppedError):
        mend_directories(made, [], lambda: True)


def test_an_index_whose_directories_form_a_ring_is_not_walked_for_ever(tmp_path: Path):
    made = index(erofs.programs() / "mkfs.erofs", listed(tmp_path / "a.tar", "ring/", "other/"))
    places = root_entries(made)
    root, ring = places[b"."], places[b"ring"]
    made[ring : ring + 8] = made[root : root + 8]
    with pytest.raises(UnusualLayerError, match="two places"):
        list(image.Image(made).walk())
