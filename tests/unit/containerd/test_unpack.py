"""Several images at once: each chain ID is unpacked once, synced once, labelled last."""

import dataclasses
import io
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from airside.archive.tar.window_budget import WindowBudget
from airside.containerd import fsync as syncing
from airside.containerd import layers_ahead, unpack
from airside.containerd.layer_tars import LayerTars
from airside.containerd.pending_sync import MemoryRecord, PendingSync
from airside.containerd.snapshot_space import SnapshotSpace
from airside.containerd.uncompressed_layers import UncompressedLayers
from airside.containerd.unpack import Unpacked, Unpacker
from airside.core.disk_space import DiskSpace
from airside.core.errors import (
    ContainerdError,
    DiffIdMismatchError,
    NotFoundError,
    StoppedError,
    StoreError,
)
from airside.core.settings import Limits
from support.images import random_image, random_layer
from support.snapshots import LEASE, FakeContainerd, Snapshot
from support.waiting import LIMIT_SECONDS, wait_until

GC_LABEL = "containerd.io/gc.ref.snapshot.overlayfs"


def running():
    return False


class Bench:
    def __init__(self, root, monkeypatch, *, threads=2, twins=False):
        self.containerd = FakeContainerd(content_root=root)
        self.synced = []
        monkeypatch.setattr(syncing, "sync_file_system", self.sync)
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        tars = LayerTars(self.open, Limits(), WindowBudget(1 << 26))
        made = UncompressedLayers(self.containerd.client, root / ".airside-twins", root, tars)
        self.twins = made if twins else None
        self.record, self.threads = MemoryRecord(), threads
        self.unpacker = None
        self.open_unpacker()

    def open_unpacker(self):
        if self.unpacker is not None:
            self.unpacker.close()
        self.unpacker = Unpacker(
            self.containerd.client,
            "overlayfs",
            threads=self.threads,
            space=SnapshotSpace(self.root, DiskSpace(0)),
            uncompressed_layers=self.twins,
            pending_sync=PendingSync(self.record, "this"),
        )

    def sync(self, path):
        """Checks that the snapshots exist and no config is labelled yet."""
        self.synced.append((path, set(self.containerd.snapshots)))
        assert [key for key in self.containerd.active_snapshots("") if key != "pod"] == []

    def open(self, digest):
        return io.BytesIO(self.containerd.contents[str(digest)])

    def label(self, image):
        return self.containerd.labels[str(image.config)].get(GC_LABEL)


@pytest.fixture
def made(tmp_path, monkeypatch):
    benches = []

    def make(**options):
        benches.append(Bench(tmp_path, monkeypatch, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.unpacker.close()


def family(count, *, compression="gzip", base=1, own=2):
    """Images with the same lowest layers."""
    below = [random_layer(f"base/{n}", compression=compression) for n in range(base)]
    return [
        random_image(f"own/{n}", layers=own, base=below, compression=compression)
        for n in range(count)
    ]


def test_an_image_is_unpacked_then_synced_then_labelled(made):
    bench = made()
    image = bench.containerd.hold(random_image(1, layers=3, compression="gzip"))

    def label(_digest, labels):
        assert bench.synced or GC_LABEL not in labels

    bench.containerd.before["label_blob"] = label
    assert not bench.unpacker.is_unpacked(image)
    found = bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert (found.layers, found.layers_there) == (3, 0)
    assert bench.label(image) == str(image.steps[-1].chain)
    assert bench.synced == [(bench.root, {str(step.chain) for step in image.steps})]
    assert bench.unpacker.is_unpacked(image)


def test_containers_can_run_from_it_before_it_is_synced(made):
    bench, told = made(), []
    image = bench.containerd.hold(random_image(1, layers=3))
    chains = {str(step.chain) for step in image.steps}

    def ready():
        told.append((set(bench.containerd.snapshots), list(bench.synced), bench.label(image)))
        assert set(bench.record.chains) == chains

    bench.unpacker.unpack(image, lease=LEASE, stop=running, ready=ready)
    assert told == [(chains, [], None)]
    assert bench.record.chains == {}
    bench.unpacker.unpack(image, lease=LEASE, stop=running, ready=lambda: told.append(()))
    assert len(told) == 2  # also if there was nothing to do


def test_what_is_to_be_unpacked_is_recorded_before(made):
    bench, seen = made(), []
    image = bench.containerd.hold(random_image(1))
    bench.containerd.before["prepare_snapshot"] = lambda _: seen.append(len(bench.record.chains))
    bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert seen == [2, 2]


def test_a_name_that_fails_leaves_it_undurable(made):
    bench = made()
    image = bench.containerd.hold(random_image(1))

    def ready():
        raise ContainerdError("no")

    with pytest.raises(ContainerdError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running, ready=ready)
    assert bench.label(image) is None
    assert len(bench.record.chains) == 2


def power_cut(bench):
    """The same containerd, in another boot."""
    bench.record.chains = dict.fromkeys(bench.record.chains, "another")
    bench.open_unpacker()


def interrupted(bench, image):
    def ready():
        raise ContainerdError("the power goes")

    with pytest.raises(ContainerdError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running, ready=ready)


def test_after_a_power_cut_what_was_not_synced_is_removed(made):
    bench = made()
    durable = bench.containerd.hold(random_image(1))
    bench.unpacker.unpack(durable, lease=LEASE, stop=running)
    interrupted(bench, bench.containerd.hold(random_image(2, layers=3)))
    power_cut(bench)
    assert bench.unpacker.sweep() == 3
    assert set(bench.containerd.snapshots) == {str(step.chain) for step in durable.steps}
    assert bench.record.chains == {}


def test_after_a_power_cut_what_is_in_use_is_written_anew(made):
    bench = made(twins=True)
    image = bench.containerd.hold(random_image(1, layers=3, compression="gzip"))
    interrupted(bench, image)
    top = str(image.steps[-1].chain)
    bench.containerd.snapshots["pod"] = Snapshot(top, {})
    power_cut(bench)
    assert bench.unpacker.sweep() == 0
    assert not bench.unpacker.is_unpacked(image)
    applied = len(bench.containerd.applied)
    found = bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert (found.layers, found.layers_there) == (3, 0)
    assert len(bench.containerd.applied) == applied + 3
    assert bench.unpacker.is_unpacked(image)
    assert bench.record.chains == {}
    assert set(bench.containerd.snapshots) == {"pod", *(str(step.chain) for step in image.steps)}


def test_a_kill_in_the_same_boot_is_made_durable_by_the_next_sweep(made):
    bench = made()
    interrupted(bench, bench.containerd.hold(random_image(1)))
    before = set(bench.containerd.snapshots)
    bench.open_unpacker()
    assert bench.unpacker.sweep() == 0
    assert len(bench.synced) == 1
    assert bench.record.chains == {}
    assert set(bench.containerd.snapshots) == before


def test_what_is_unpacked_is_not_touched(made):
    bench = made()
    image = bench.containerd.hold(random_image(1))
    bench.unpacker.unpack(image, lease=LEASE, stop=running)
    before = bench.containerd.calls["prepare_snapshot"], bench.containerd.calls["label_blob"]
    found = bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert (found.layers, found.layers_there) == (0, 2)
    assert (
        bench.containerd.calls["prepare_snapshot"],
        bench.containerd.calls["label_blob"],
    ) == before
    assert len(bench.synced) == 1


def test_snapshots_without_the_label_are_synced_and_labelled(made):
    """Another unpacker made them, or we were killed before the end."""
    bench = made()
    image = bench.containerd.hold(random_image(1))
    for step in image.steps:
        bench.containerd.snapshots[str(step.chain)] = Snapshot(str(step.parent or ""), {}, True)
    assert not bench.unpacker.is_unpacked(image)
    found = bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert (found.layers, found.layers_there) == (0, 2)
    assert (len(bench.synced), bench.label(image)) == (1, str(image.steps[-1].chain))
    assert str(image.steps[-1].chain) in bench.containerd.leases[LEASE]


def test_what_was_made_early_is_synced_though_its_config_has_a_label_of_before(made):
    bench = made()
    image = bench.containerd.hold(random_image(1))
    bench.unpacker.unpack(image, lease=LEASE, stop=running)
    pending_sync = PendingSync(bench.record, "this")
    pending_sync.expect([step.chain for step in image.steps])  # as if removed and made again
    bench.open_unpacker()
    bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert len(bench.synced) == 2
    assert bench.record.chains == {}


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_each_layer_is_applied_once_and_each_call_synced_once(made, threads, twins):
    bench = made(threads=threads, twins=twins)
    images = [bench.containerd.hold(image) for image in family(6, base=2)]
    found = bench.unpacker.unpack_all(images, lease=LEASE, stop=running)
    assert sum(each.layers for each in found) == 2 + 6 * 2 == len(bench.containerd.applied)
    assert sum(each.layers_there for each in found) == 6 * 4 - 14
    assert len(bench.synced) == 1
    assert bench.containerd.most_applying <= threads
    assert all(map(bench.unpacker.is_unpacked, images))
    chains = {str(step.chain) for image in images for step in image.steps}
    assert set(bench.containerd.snapshots) == chains


def test_several_calls_at_once_apply_each_layer_once(made):
    bench = made()
    images = [bench.containerd.hold(image) for image in family(4)]
    for name in ("a", "b", "c"):
        bench.containerd.leases[name] = set()
    with ThreadPoolExecutor(3) as pool:
        calls = [
            pool.submit(bench.unpacker.unpack_all, images, lease=name, stop=running)
            for name in ("a", "b", "c")
        ]
        results = [call.result(LIMIT_SECONDS) for call in calls]
    assert sum(each.layers for found in results for each in found) == 1 + 4 * 2
    assert len(bench.containerd.applied) == 1 + 4 * 2
    for name in ("a", "b", "c"):
        assert bench.containerd.held_by(name) == set(bench.containerd.snapshots)


def test_a_thread_is_not_kept_by_an_image_that_waits(made):
    """Two images share a slow base; a third continues meanwhile."""
    bench = made(threads=2)
    first, second = (bench.containerd.hold(image) for image in family(2))
    third = bench.containerd.hold(random_image("third"))
    third_done = threading.Event()

    def apply(layer, _stop):
        if layer.digest == first.layers[0].digest:
            assert third_done.wait(LIMIT_SECONDS)

    def commit(name, _key):
        if name == str(third.steps[-1].chain):
            third_done.set()

    bench.containerd.before.update(apply=apply, commit_snapshot=commit)
    found = bench.unpacker.unpack_all([first, second, third], lease=LEASE, stop=running)
    assert all(isinstance(each, Unpacked) for each in found)


def test_an_image_whose_layer_is_another_fails_alone(made):
    bench = made()
    good, other = (bench.containerd.hold(image) for image in family(2))
    wrong = dataclasses.replace(other, layers=(*other.layers[:2], good.layers[2]))
    found = bench.unpacker.unpack_all([good, wrong], lease=LEASE, stop=running)
    assert isinstance(found[0], Unpacked)
    assert isinstance(found[1], DiffIdMismatchError)
    assert (bench.label(good), bench.label(wrong)) == (str(good.steps[-1].chain), None)
    with pytest.raises(DiffIdMismatchError):
        bench.unpacker.unpack(wrong, lease=LEASE, stop=running)


def test_a_lie_about_a_shared_layer_does_not_fail_the_image_that_tells_the_truth(made):
    """Both say the same diff ID of their lowest layer; one has other bytes."""
    bench = made(threads=1)
    honest = bench.containerd.hold(random_image("honest", layers=1))
    liar = dataclasses.replace(
        honest, layers=bench.containerd.hold(random_image("x", layers=1)).layers
    )
    found = bench.unpacker.unpack_all([liar, honest], lease=LEASE, stop=running)
    assert [type(each) for each in found] == [DiffIdMismatchError, Unpacked]


def test_a_base_that_is_removed_in_between_is_unpacked_again(made):
    bench = made(threads=1)
    image = bench.containerd.hold(random_image(1, layers=3))
    removed = []

    def remove(key):
        if key.endswith(str(image.steps[2].chain)) and not removed:
            removed.append(bench.containerd.snapshots.pop(str(image.steps[1].chain)))

    bench.containerd.before["prepare_snapshot"] = remove
    bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert removed
    assert bench.unpacker.is_unpacked(image)


def test_a_lease_that_is_gone_is_told_after_some_tries(made):
    bench = made()
    image = bench.containerd.hold(random_image(1))
    with pytest.raises(NotFoundError, match="lease"):
        bench.unpacker.unpack(image, lease="another", stop=running)
    assert not bench.containerd.snapshots
    assert bench.containerd.calls["prepare_snapshot"] == 3


def test_a_stop_is_obeyed_between_layers(made):
    bench = made()
    image = bench.containerd.hold(random_image(1, layers=3))
    stopped = []
    bench.containerd.before["commit_snapshot"] = lambda *_: stopped.append(True)
    with pytest.raises(StoppedError):
        bench.unpacker.unpack(image, lease=LEASE, stop=lambda: bool(stopped))
    assert set(bench.containerd.snapshots) == {str(image.steps[0].chain)}
    assert bench.label(image) is None


def test_an_image_goes_on_where_the_one_that_it_waited_for_was_stopped(made):
    bench = made(threads=2)
    first, second = (bench.containerd.hold(image) for image in family(2))
    waiting, stopped = threading.Event(), threading.Event()

    def apply(*_):
        if bench.containerd.calls["apply"] == 1:
            assert waiting.wait(LIMIT_SECONDS)
            stopped.set()
            raise StoppedError("stopped")

    bench.containerd.before["apply"] = apply
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(bench.unpacker.unpack, first, lease=LEASE, stop=stopped.is_set)
        wait_until(lambda: bench.containerd.applying)
        two = pool.submit(bench.unpacker.unpack, second, lease=LEASE, stop=running)
        wait_until(lambda: any(bench.unpacker._claims._waiting.values()))
        waiting.set()
        with pytest.raises(StoppedError):
            one.result(LIMIT_SECONDS)
        assert two.result(LIMIT_SECONDS).layers == 3


def test_an_image_that_waits_when_it_is_closed_ends(made):
    bench = made(threads=1)
    first, second = (bench.containerd.hold(image) for image in family(2))
    closed, entered = threading.Event(), threading.Event()

    def apply(*_):
        entered.set()
        assert closed.wait(LIMIT_SECONDS)
        raise StoppedError("stopped")

    bench.containerd.before["apply"] = apply
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(
            bench.unpacker.unpack_all, [first, second], lease=LEASE, stop=closed.is_set
        )
        assert entered.wait(LIMIT_SECONDS)
        image = unpack._Image(second, LEASE, running, second.steps)
        assert not bench.unpacker._claim(first.steps[0], image)
        bench.unpacker._pool.shutdown(wait=False)
        closed.set()
        found = call.result(LIMIT_SECONDS)
    assert [type(each) for each in found] == [StoppedError, StoppedError]
    assert isinstance(image.done.exception(LIMIT_SECONDS), StoppedError)


def test_a_disk_that_fails_the_sync_unpacked_nothing(made, monkeypatch):
    bench = made()
    image = bench.containerd.hold(random_image(1))

    def fail(_path):
        raise StoreError("the disk")

    monkeypatch.setattr(syncing, "sync_file_system", fail)
    with pytest.raises(StoreError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert bench.label(image) is None


def test_a_config_that_is_gone_is_told(made):
    bench = made()
    image = bench.containerd.hold(random_image(1))
    del bench.containerd.contents[str(image.config)]
    with pytest.raises(NotFoundError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running)


def test_what_is_no_error_of_ours_is_raised(made):
    bench = made()
    image = bench.containerd.hold(random_image(1))
    bench.containerd.before["apply"] = lambda *_: 1 // 0
    with pytest.raises(ZeroDivisionError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running)


def test_twins_are_applied_in_the_place_of_compressed_layers_and_leave_nothing(made):
    bench = made(twins=True)
    images = [bench.containerd.hold(image) for image in family(3)]
    bench.unpacker.unpack_all(images, lease=LEASE, stop=running)
    layers = {layer.digest for image in images for layer in image.layers}
    assert not layers & {layer.digest for layer in bench.containerd.applied}
    assert bench.twins.made >= 7
    assert bench.twins.failed == 0
    assert not bench.twins._directory.exists()
    assert bench.unpacker._ahead._ahead == {}


def test_a_twin_whose_lease_ended_is_replaced_by_the_layer(made):
    bench = made(twins=True)
    image = bench.containerd.hold(random_image(1, compression="zstd"))

    def gone(layer, _stop):
        if layer.digest not in {each.digest for each in image.layers}:
            raise NotFoundError("content: not found")

    bench.containerd.before["apply"] = gone
    bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert bench.unpacker.is_unpacked(image)


def test_twins_that_nobody_needs_any_more_go(made):
    """The second layer is decompressed ahead, and the first fails."""
    bench = made(twins=True)
    image = bench.containerd.hold(random_image(1, layers=3, compression="gzip"))

    def fail(*_):
        raise ContainerdError("no", status="UNKNOWN")

    bench.containerd.before["apply"] = fail
    with pytest.raises(ContainerdError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running)
    bench.unpacker.close()
    assert not bench.twins._directory.exists()


def test_a_twin_that_another_image_asked_for_and_stopped_is_not_waited_for(made):
    bench = made(twins=True)
    image = bench.containerd.hold(random_image(1, compression="gzip"))
    stopped = Future()
    stopped.set_exception(StoppedError("stopped"))
    chain = image.steps[0].chain
    asker = unpack._Image(image, LEASE, running, image.steps)
    bench.unpacker._ahead._ahead[chain] = layers_ahead._Ahead(asker, stopped)
    bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert bench.unpacker.is_unpacked(image)


def test_a_sweep_is_of_snapshots_and_twins(made):
    bench = made(twins=True)
    image = bench.containerd.hold(random_image(1))
    bench.containerd.snapshots[f"airside-0-1 {image.steps[0].chain}"] = Snapshot("", {})
    bench.twins._directory.mkdir()
    (bench.twins._directory / ("ab" * 32)).write_bytes(b"x")
    assert bench.unpacker.sweep() == 1
    assert bench.containerd.snapshots == {}
    assert not bench.twins._directory.exists()


def test_what_is_asked_of_a_closed_one_is_stopped(made):
    bench = made()
    image = bench.containerd.hold(random_image(1))
    bench.unpacker.close()
    with pytest.raises(StoppedError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running)


def test_closing_stops_what_runs(made):
    bench = made(twins=True)
    image = bench.containerd.hold(random_image(1, layers=3, compression="gzip"))
    bench.containerd.before["commit_snapshot"] = lambda *_: bench.unpacker.close(wait=False)
    with pytest.raises(StoppedError):
        bench.unpacker.unpack(image, lease=LEASE, stop=running)
    assert len(bench.containerd.applied) == 1
