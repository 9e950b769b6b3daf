"""Uncompressed layers: made, adopted, deleted; and none if that fails."""

import gzip

import pytest

from airside.containerd.uncompressed_layers import UncompressedLayers
from airside.core.disk_space import DiskSpace
from airside.core.errors import ArchiveFormatError, ContainerdError, NotFoundError, StoppedError
from airside.oci.model import OCI_LAYER
from support.images import random_image
from support.snapshots import LEASE, FakeContainerd


class Bench:
    def __init__(self, root, **options):
        self.root = root
        self.blobs = root / "blobs/sha256"
        self.blobs.mkdir(parents=True)
        self.directory = root / ".airside-twins"
        self.containerd = FakeContainerd(content_root=root)
        [self.step] = self.containerd.hold(random_image(1, layers=1, compression="gzip")).steps
        self.options = options
        self.twins = self.another()

    def another(self, open_tar=None):
        return UncompressedLayers(
            self.containerd.client, self.directory, self.root, open_tar or self.tar, **self.options
        )

    def tar(self, layer, _stop):
        data = gzip.decompress(self.containerd.contents[str(layer.digest)])
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    def make(self, layer=None, stop=lambda: False):
        return self.twins.make(layer or self.step.layer, LEASE, stop)

    @property
    def left(self):
        return list(self.directory.glob("*"))


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_twin_is_the_tar_under_a_name_that_nobody_knows(bench):
    twin, other = bench.make(), bench.make()
    assert twin.descriptor.media_type == OCI_LAYER
    raw = (bench.blobs / twin.descriptor.digest.hex).read_bytes()
    assert raw == gzip.decompress(bench.containerd.contents[str(bench.step.layer.digest)])
    assert twin.descriptor.size_bytes == len(raw)
    names = {str(t.descriptor.digest) for t in (twin, other)}
    assert len(names | {str(bench.step.diff_id)}) == 3
    assert bench.containerd.leases[LEASE] == names
    assert all(bench.containerd.labels[name] == {} for name in names)


def test_a_twin_that_was_used_takes_no_space(bench):
    twin = bench.make()
    bench.twins.drop(twin)
    assert (bench.blobs / twin.descriptor.digest.hex).stat().st_size == 0
    assert bench.left == []


def test_a_layer_that_is_not_compressed_has_none(bench):
    [step] = bench.containerd.hold(random_image(2, layers=1)).steps
    assert bench.make(step.layer) is None
    assert not bench.directory.exists()


def test_there_is_none_where_the_bytes_are_not_ours(bench):
    bench.twins = bench.another(lambda *_: None)
    assert bench.make() is None
    assert bench.twins.failed == 0


def test_a_damaged_layer_has_none_but_the_next_has(bench):
    def damaged(layer, stop):
        if bench.twins.failed:
            yield from bench.tar(layer, stop)
        yield b"x"
        raise ArchiveFormatError("the gzip data is damaged")

    bench.twins = bench.another(damaged)
    assert bench.make() is None
    assert (bench.left, list(bench.blobs.iterdir())) == ([], [])
    assert (bench.twins.failed, bench.twins.why_failed) == (1, "the gzip data is damaged")
    bench.twins._open_tar = bench.tar
    assert bench.make() is not None


def test_a_link_that_a_collection_took_is_made_again(bench):
    def collect(_key, digest):
        if bench.containerd.calls["adopt_blob"] < 3:
            (bench.blobs / digest.hex).unlink()

    bench.containerd.before["adopt_blob"] = collect
    assert bench.make() is not None
    assert bench.containerd.calls["abort_write"] == 2


def test_containerd_that_adopts_nothing_is_not_asked_again(bench):
    bench.containerd.before["adopt_blob"] = lambda _key, digest: (bench.blobs / digest.hex).unlink()
    assert bench.make() is None
    assert bench.make() is None
    assert bench.containerd.calls["adopt_blob"] == 3
    assert bench.twins.failed == 1
    assert bench.left == []


def test_a_directory_from_which_nothing_can_be_linked_is_not_tried_again(bench):
    bench.blobs.rmdir()
    assert bench.make() is None
    assert bench.make() is None
    assert (bench.twins.failed, bench.left) == (1, [])


def test_containerd_that_is_away_is_asked_again(bench):
    def away(*_):
        if bench.containerd.calls["adopt_blob"] == 1:
            raise ContainerdError("away", status="UNAVAILABLE")

    bench.containerd.before["adopt_blob"] = away
    assert bench.make() is None
    assert bench.make() is not None


def test_a_lease_that_is_gone_gives_none(bench):
    assert bench.twins.make(bench.step.layer, "another", lambda: False) is None
    assert bench.left == []


def test_a_stop_ends_the_writing_and_leaves_nothing(bench):
    with pytest.raises(StoppedError):
        bench.make(stop=lambda: True)
    assert (bench.left, list(bench.blobs.iterdir())) == ([], [])


def test_there_is_none_where_space_is_short(tmp_path):
    bench = Bench(tmp_path, space=DiskSpace(1 << 60))
    assert bench.make() is None
    assert "min_free_bytes" in bench.twins.why_failed
    assert bench.left == []


def test_what_is_no_error_of_ours_is_raised_and_leaves_nothing(bench):
    def broken(*_):
        yield b"x"
        raise ZeroDivisionError

    bench.twins = bench.another(broken)
    with pytest.raises(ZeroDivisionError):
        bench.make()
    assert bench.left == []


def test_a_sweep_removes_what_a_dead_process_left_and_nothing_of_a_living_one(bench):
    live, dead = bench.make(), bench.another().make(bench.step.layer, LEASE, lambda: False)
    half = bench.directory / ("ab" * 32)
    half.write_bytes(b"half")
    orphan = bench.directory / ("cd" * 32)
    orphan.write_bytes(b"linked, not adopted")
    (bench.blobs / orphan.name).hardlink_to(orphan)
    bench.twins.sweep()
    assert bench.left == [live.path]
    assert (bench.blobs / live.path.name).stat().st_size == live.descriptor.size_bytes
    for name in (dead.path.name, orphan.name):
        assert (bench.blobs / name).stat().st_size == 0
        assert f"sha256:{name}" not in bench.containerd.contents


def test_a_sweep_goes_on_where_containerd_refuses_and_ends_where_it_is_away(bench):
    orphan = bench.directory / ("cd" * 32)
    bench.directory.mkdir()
    orphan.write_bytes(b"linked, not adopted")
    (bench.blobs / orphan.name).hardlink_to(orphan)

    def fail(*_):
        raise error

    bench.containerd.before["adopt_blob"] = fail
    error = ContainerdError("away", status="UNAVAILABLE")
    with pytest.raises(ContainerdError):
        bench.twins.sweep()
    assert bench.left == [orphan]
    error = NotFoundError("no")
    bench.twins.sweep()
    assert bench.left == []
