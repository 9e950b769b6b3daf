"""The tars of layers in our store."""

import io

import pytest

from airside.archive.tar.window_budget import WindowBudget
from airside.containerd.layer_tars import LayerTars
from airside.core.errors import ArchiveTruncatedError, NotFoundError
from airside.core.settings import Limits
from airside.oci.model import Descriptor
from support.images import compress, random_layer, sha256

LAYER = random_layer(1)


def tars(blobs):
    def open_blob(digest):
        opened.append(file := io.BytesIO(blobs[digest]))
        return file

    opened = []
    return LayerTars(open_blob, Limits(), WindowBudget(1 << 26)), opened


def layer(raw):
    return Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", sha256(raw), len(raw))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "stored"])
def test_a_compressed_layer_is_given_as_its_tar(compression):
    raw = compress(LAYER.tar, compression)
    read, opened = tars({sha256(raw): raw})
    assert b"".join(read(layer(raw), lambda: False)) == LAYER.tar
    assert all(file.closed for file in opened)


@pytest.mark.parametrize("compression", ["none", "xz", "bzip2", "lz4"])
def test_what_containerd_would_not_decompress_is_not_given(compression):
    raw = compress(LAYER.tar, compression)
    read, opened = tars({sha256(raw): raw})
    assert read(layer(raw), lambda: False) is None
    assert all(file.closed for file in opened)


def test_a_cut_layer_is_told_when_it_is_read():
    raw = compress(LAYER.tar, "gzip")[:-9]
    read, opened = tars({sha256(raw): raw})
    with pytest.raises(ArchiveTruncatedError):
        list(read(layer(raw), lambda: False))
    assert all(file.closed for file in opened)


def test_a_reader_that_is_closed_closes_the_file():
    raw = compress(LAYER.tar, "gzip")
    read, opened = tars({sha256(raw): raw})
    chunks = read(layer(raw), lambda: False)
    next(chunks)
    chunks.close()
    assert all(file.closed for file in opened)


def test_a_layer_that_is_not_held_is_told():
    def absent(digest):
        raise NotFoundError(str(digest))

    read = LayerTars(absent, Limits(), WindowBudget(1))
    with pytest.raises(NotFoundError):
        read(layer(b"x"), lambda: False)
