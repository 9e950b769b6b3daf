"""The bytes that are written are those that were hashed."""

import gzip
import hashlib
import io

import pytest

from airside.archive.tar.window_budget import WindowBudget
from airside.containerd.layer_tars import LayerTars
from airside.containerd.verified_tars import VerifiedTars
from airside.core.disk_space import DiskSpace
from airside.core.errors import (
    DiffIdMismatchError,
    NotFoundError,
    StoppedError,
    StoreError,
    UnusualLayerError,
)
from airside.core.settings import Limits
from airside.oci.chain import Step
from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_LAYER, Descriptor

TAR = b"a tar" * 1000


class Store:
    """Blobs, of which one may be what another file was verified to be."""

    def __init__(self, *blobs):
        self.blobs = {digest_of(raw): raw for raw in blobs}
        self.fresh = False
        self.read = 0

    def open(self, digest):
        if digest not in self.blobs:
            raise NotFoundError("no")
        self.read += 1
        return io.BytesIO(self.blobs[digest])

    def is_right(self, digest):
        return digest in self.blobs

    def is_fresh(self, _digest, _file=None):
        return self.fresh


def step_of(raw, diff=TAR, kind=""):
    layer = Descriptor(OCI_LAYER + kind, digest_of(raw), len(raw))
    return Step(layer, digest_of(diff), digest_of(diff), None)


def opened(store, step, tmp_path, stop=lambda: False, free=0):
    tars = LayerTars(store.open, Limits(), WindowBudget(1 << 26))
    return VerifiedTars(store, tars, tmp_path, DiskSpace(free)).open(step, stop)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_plain_layer_is_the_file_of_the_store(tmp_path, fresh):
    store = Store(TAR)
    store.fresh = fresh
    found = opened(store, step_of(TAR), tmp_path)
    found.file.seek(0)
    assert (found.file.read(), found.digest) == (TAR, digest_of(TAR))
    found.close()


def test_a_plain_layer_with_another_kind_of_digest_is_hashed_for_its_diff_id(tmp_path):
    digest = Digest("sha512", hashlib.sha512(TAR).hexdigest())
    store = Store()
    store.blobs[digest], store.fresh = TAR, True
    step = Step(Descriptor(OCI_LAYER, digest, len(TAR)), digest_of(TAR), digest_of(TAR), None)
    found = opened(store, step, tmp_path)
    assert found.digest == digest_of(TAR)
    found.close()


@pytest.mark.parametrize("verified", [True, False])
def test_a_file_that_changed_since_it_was_verified_is_hashed_again(tmp_path, verified):
    store = Store(TAR)
    store.blobs[digest_of(TAR)] = b"another"
    store.is_right = lambda _digest: verified
    with pytest.raises(DiffIdMismatchError):
        opened(store, step_of(TAR), tmp_path)


def test_a_compressed_layer_is_decompressed_once_into_a_file_without_a_name(tmp_path):
    raw = gzip.compress(TAR)
    store = Store(raw)
    found = opened(store, step_of(raw, kind="+gzip"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    found.file.seek(0)
    assert found.file.read() == TAR
    found.close()


def test_a_compressed_layer_that_is_another_is_refused_before_it_is_written(tmp_path):
    raw = gzip.compress(b"another tar")
    with pytest.raises(DiffIdMismatchError) as caught:
        opened(Store(raw), step_of(raw, kind="+gzip"), tmp_path)
    assert caught.value.context["found"] == str(digest_of(b"another tar"))


@pytest.mark.parametrize(
    "raw", [b"\x1f\x8b damaged", gzip.compress(TAR)[:-9]], ids=["damaged", "cut"]
)
def test_what_cannot_be_read_is_left_to_containerd(tmp_path, raw):
    with pytest.raises(UnusualLayerError):
        opened(Store(raw), step_of(raw, kind="+gzip"), tmp_path)


def test_a_blob_that_is_gone_is_left_to_containerd(tmp_path):
    with pytest.raises(UnusualLayerError):
        opened(Store(), step_of(TAR), tmp_path)


def test_without_space_for_it_uncompressed_containerd_reads_it(tmp_path):
    raw = gzip.compress(TAR)
    with pytest.raises(UnusualLayerError):
        opened(Store(raw), step_of(raw, kind="+gzip"), tmp_path, free=1 << 60)


@pytest.mark.parametrize("kind", ["", "+gzip"])
def test_a_stop_ends_the_reading(tmp_path, kind):
    raw = gzip.compress(TAR) if kind else TAR
    with pytest.raises(StoppedError):
        opened(Store(raw), step_of(raw, kind=kind), tmp_path, stop=lambda: True)


def test_a_disk_that_fails_is_left_to_containerd_to_tell(tmp_path):
    store = Store(TAR)

    def fail(_digest):
        raise StoreError("the disk")

    store.is_right = fail
    with pytest.raises(UnusualLayerError, match="the disk"):
        opened(store, step_of(TAR), tmp_path)
