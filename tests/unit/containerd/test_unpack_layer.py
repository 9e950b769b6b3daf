"""One layer, and the races with other unpackers."""

import dataclasses

import pytest

from airside.containerd.snapshot_space import SnapshotSpace
from airside.containerd.unpack_layer import LayerUnpacker, snapshot_labels
from airside.core.disk_space import DiskSpace
from airside.core.errors import (
    ContainerdError,
    DiffIdMismatchError,
    NotFoundError,
    StorageFullError,
    UnusualLayerError,
)
from airside.oci.digest import Digest
from support.images import random_image
from support.snapshots import LEASE, FakeContainerd, Snapshot

UNCOMPRESSED = "containerd.io/uncompressed"


def space_of(root, min_free_bytes=0):
    return SnapshotSpace(root, DiskSpace(min_free_bytes))


class NotDecompressed:
    def tar(self):
        raise UnusualLayerError("not here")

    def uncompressed(self):
        return None


class Bench:
    def __init__(self, **fields):
        self.containerd = FakeContainerd(**fields)
        self.rootfs = self.containerd.hold(random_image("layering", compression="gzip"))
        self.first, self.second = self.rootfs.steps
        self.layer_unpacker = LayerUnpacker(
            self.containerd.client, "overlayfs", identity="airside-1", space=space_of(None)
        )

    def add(self, step, lease=LEASE):
        return self.layer_unpacker.add(step, lease, lambda: False, NotDecompressed())

    def committed(self, step):
        """Commits a snapshot as another unpacker would."""
        self.containerd.snapshots[str(step.chain)] = Snapshot(str(step.parent or ""), {}, True)

    @property
    def prepared(self):
        return self.containerd.active_snapshots("overlayfs")


@pytest.fixture
def bench():
    return Bench()


def test_a_layer_becomes_a_snapshot_on_its_parent(bench):
    assert bench.add(bench.first)
    assert bench.add(bench.second)
    snapshots = bench.containerd.snapshots
    assert set(snapshots) == {str(step.chain) for step in bench.rootfs.steps}
    assert snapshots[str(bench.second.chain)].parent == str(bench.first.chain)
    assert snapshots[str(bench.second.chain)].diff == bench.second.diff_id
    labels = bench.containerd.labels[str(bench.second.layer.digest)]
    assert labels == {UNCOMPRESSED: str(bench.second.diff_id)}


def test_labels_are_those_of_containerd_s_own_unpacker(bench):
    annotations = {
        "containerd.io/snapshot/cri.image-ref": "x",
        "containerd.io/snapshot.ref": "another",
        "containerd.io/snapshot/long": "x" * 4096,
        "org.example": "y",
    }
    layer = dataclasses.replace(bench.first.layer, annotations=annotations)
    labels = snapshot_labels(dataclasses.replace(bench.first, layer=layer))
    assert labels == {
        "containerd.io/snapshot/cri.image-ref": "x",
        "containerd.io/snapshot.ref": str(bench.first.chain),
    }


def test_what_is_there_joins_the_lease_and_nothing_is_applied(bench):
    bench.committed(bench.first)
    assert not bench.add(bench.first)
    assert str(bench.first.chain) in bench.containerd.leases[LEASE]
    assert bench.containerd.calls["apply"] == 0
    assert not bench.prepared


def test_another_that_commits_first_wins_and_ours_goes(bench):
    bench.containerd.before["commit_snapshot"] = lambda *_: bench.committed(bench.first)
    assert not bench.add(bench.first)
    assert not bench.prepared
    assert str(bench.first.chain) in bench.containerd.leases[LEASE]


def test_one_that_commits_first_and_is_removed_at_once_is_told(bench):
    bench.containerd.before["commit_snapshot"] = lambda *_: bench.committed(bench.first)
    bench.containerd.before["add_snapshot_to_lease"] = bench.containerd.snapshots.pop
    with pytest.raises(NotFoundError):
        bench.add(bench.first)


def test_a_key_that_is_taken_is_not_used_again(bench):
    def taken(key):
        if len(keys) < 2:
            bench.containerd.snapshots[key] = Snapshot("", {})
        keys.append(key)

    keys = []
    bench.containerd.before["prepare_snapshot"] = taken
    assert bench.add(bench.first)
    assert len(set(keys)) == 3


def test_three_keys_that_are_taken_are_enough(bench):
    bench.containerd.before["prepare_snapshot"] = lambda key: bench.containerd.snapshots.update(
        {key: Snapshot("", {})}
    )
    with pytest.raises(ContainerdError):
        bench.add(bench.first)
    assert bench.containerd.calls["prepare_snapshot"] == 3


def test_a_layer_that_is_another_is_refused_and_leaves_nothing(bench):
    wrong = dataclasses.replace(bench.first, diff_id=Digest("sha256", "0" * 64))
    with pytest.raises(DiffIdMismatchError) as caught:
        bench.add(wrong)
    assert caught.value.context == {
        "blob": str(bench.first.layer.digest),
        "expected": "sha256:" + "0" * 64,
        "found": str(bench.first.diff_id),
    }
    assert not bench.containerd.snapshots
    assert bench.containerd.labels[str(bench.first.layer.digest)] == {}


@pytest.mark.parametrize("call", ["apply", "label_blob", "commit_snapshot"])
def test_what_fails_half_way_leaves_nothing_prepared(bench, call):
    def fail(*_):
        raise ContainerdError("no", status="UNKNOWN")

    bench.containerd.before[call] = fail
    with pytest.raises(ContainerdError, match="no"):
        bench.add(bench.first)
    assert not bench.containerd.snapshots


def test_the_error_of_an_apply_names_the_layer(bench):
    def fail(*_):
        raise ContainerdError("no", status="UNKNOWN")

    bench.containerd.before["apply"] = fail
    with pytest.raises(ContainerdError) as caught:
        bench.add(bench.first)
    assert caught.value.context["blob"] == str(bench.first.layer.digest)


def test_the_first_error_is_told_where_the_clean_up_fails_too(bench):
    def fail(*_):
        raise ContainerdError("away", status="UNAVAILABLE")

    bench.containerd.before.update(apply=fail, remove_snapshot=fail)
    with pytest.raises(ContainerdError, match="away"):
        bench.add(bench.first)
    assert len(bench.prepared) == 1
    bench.containerd.before.clear()
    assert bench.layer_unpacker.sweep() == 1
    assert not bench.prepared


@pytest.mark.parametrize("what", ["lease", "parent", "layer"])
def test_what_is_gone_is_told(bench, what):
    if what == "layer":
        del bench.containerd.contents[str(bench.first.layer.digest)]
    step = bench.second if what == "parent" else bench.first
    with pytest.raises(NotFoundError):
        bench.add(step, "another" if what == "lease" else LEASE)
    assert not bench.containerd.snapshots


def test_nothing_is_applied_where_no_space_is_left(tmp_path):
    bench = Bench()
    bench.layer_unpacker = LayerUnpacker(
        bench.containerd.client, "overlayfs", identity="x", space=space_of(tmp_path, 1 << 60)
    )
    with pytest.raises(StorageFullError):
        bench.add(bench.first)
    assert bench.containerd.calls["apply"] == 0
    assert not bench.containerd.snapshots


def test_a_sweep_takes_only_what_a_dead_process_of_ours_prepared(bench):
    other = f"airside-1-0123-1 {bench.second.chain}"
    keep = {"extract-1-abc sha256:1", "airside-1-container", "airside-2-0-1 sha256:1"}
    bench.containerd.snapshots |= {key: Snapshot("", {}) for key in {other, *keep}}
    swept = []

    def sweep(*_):
        assert len(bench.prepared) == len(keep) + 2 - len(swept)
        swept.append(bench.layer_unpacker.sweep())

    bench.containerd.before["apply"] = sweep
    assert bench.add(bench.first)
    assert swept == [1]
    assert set(bench.prepared) == keep
