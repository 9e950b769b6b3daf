"""The disk space of a layer, from the headers of its tar."""

import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.containerd.layer_footprint import LayerFootprints, TarFootprint
from airside.core.errors import NotFoundError, StoppedError
from support import bombs
from support.images import TestLayer, layer_of, random_layer

GIB = 1 << 30


def footprint(layer: TestLayer) -> int:
    found = TarFootprint()
    found.feed(layer.tar)
    return found.size_bytes


def tar_of(*names_and_sizes, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for name, size in names_and_sizes:
            info = tarfile.TarInfo(name)
            info.size = size
            file.addfile(info, io.BytesIO(bytes(size)))
    return out.getvalue()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_each_file_takes_whole_blocks(form):
    long = "d/" * 40 + "n" * 90
    found = footprint(layer_of(tar_of(("a", 1), (long, 4097), ("ä", 0), form=form)))
    assert 3 * 4096 <= found <= 3 * 4096 + 3 * 512


def test_a_sparse_file_takes_all_that_it_says():
    assert footprint(bombs.sparse(3 * GIB)) >= 3 * GIB
    assert footprint(bombs.sparse(3 * GIB, old=True)) >= 3 * GIB


def test_directories_take_blocks_too():
    assert footprint(bombs.entries(100, directories=True)) >= 100 * 4096
    assert footprint(bombs.entries(100, directories=False)) >= 100 * 4096


@given(cuts=st.lists(st.integers(1, 5000), max_size=30))
def test_any_chunking_gives_the_same(cuts):
    raw = tar_of(("a", 700), ("p" * 200, 5000), ("b", 0)) + bombs.sparse(GIB).tar
    whole, parts = TarFootprint(), TarFootprint()
    whole.feed(raw)
    at = 0
    for count in (*cuts, len(raw)):
        parts.feed(raw[at : at + count])
        at += count
    assert (parts.size_bytes, parts.tar_bytes) == (whole.size_bytes, len(raw))


@given(st.binary(max_size=3000))
def test_what_is_no_tar_is_measured_without_an_error(raw):
    TarFootprint().feed(raw)


def test_a_negative_length_ends_the_measuring():
    """`int` reads signs, so the reader would go back, and measure one member for ever."""
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"-0000001000\0"
    found = TarFootprint()
    found.feed(bytes(block))
    assert found.ended
    assert not found.skip_bytes


def measured(layer, room=1 << 60, stop=lambda: False, open_blob=None):
    def tar(_descriptor, _stop):
        return iter_of(gzip.decompress(layer.raw)) if layer.raw[:2] == b"\x1f\x8b" else None

    def iter_of(raw):
        for at in range(0, len(raw), 1000):
            yield raw[at : at + 1000]

    made = LayerFootprints(open_blob or (lambda _: io.BytesIO(layer.raw)), tar)
    descriptor = type("Layer", (), {"digest": layer.digest, "size_bytes": layer.size_bytes})()
    return made.measure(descriptor, room, stop), made


def test_a_plain_layer_and_a_compressed_one_measure_the_same():
    plain = random_layer("measured")
    packed = layer_of(plain.tar, compression="gzip")
    assert measured(plain)[0] == measured(packed)[0] == footprint(plain)


def test_measuring_ends_where_there_is_no_room_and_is_not_done_twice():
    layer = bombs.zeros(1 << 20)
    found, made = measured(layer, room=1000)
    assert found >= 1 << 20
    assert made.known(layer.digest) == found


def test_what_cannot_be_read_is_not_measured():
    def absent(_):
        raise NotFoundError("gone")

    assert measured(random_layer("gone"), open_blob=absent)[0] is None


def test_a_stop_ends_measuring():
    with pytest.raises(StoppedError):
        measured(bombs.zeros(1 << 20), stop=lambda: True)
