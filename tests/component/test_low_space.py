"""A disk that is nearly full: what may go goes first, the oldest first, and the import comes in."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from errno import EIO
from pathlib import Path
from unittest.mock import Mock

import pytest

from airside.agent.maintenance import Maintenance
from airside.agent.node import Node
from airside.archive.stat_key import StatKey
from airside.core.errors import StorageFullError
from airside.core.settings import RetentionRule
from airside.importer.importer import Job
from airside.registry.rules.requests import Name
from support.clocks import believed
from support.images import TestImage, oci_archive, random_image
from support.nodes import import_now, node_at, visible, wrong_blobs
from support.pushes import held, push_image
from support.waiting import LIMIT_SECONDS, wait_until_async

KIB = 1024
NAME = "registry.example/app"


def image(label: object, kib: int = 100) -> TestImage:
    """A layer of about so many KiB, and little else."""
    return random_image(label, layers=1, layer_bytes=kib * KIB)


class Disk:
    """A file system of `size` KiB that has nothing but the store's blobs on it."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        self.node, self.size_bytes, self.elsewhere = node, size * KIB, 0
        monkeypatch.setattr("airside.core.disk_space._AMPLE_BYTES", 1 << 60)
        for module in ("airside.store.gc", "airside.core.disk_space"):
            monkeypatch.setattr(f"{module}.free_bytes", self.free)

    def free(self, _path: Path) -> int:
        blobs = self.node.store.digests()
        return self.size_bytes - sum(self.node.store.stat(blob) or 0 for blob in blobs)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    settings = {"low_space_bytes": 50 * KIB, "min_free_bytes": 50 * KIB, "retention": 5}
    with node_at(tmp_path / "data", **settings) as opened:
        yield opened


@pytest.fixture
def now(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [1e6]
    node.clock = node.importer._clock = believed(lambda: found[0])
    monkeypatch.setattr("airside.store.gc._IN_VAIN_SECONDS", 0.0)
    return found


def drop(node: Node, path: Path, images: dict[str, TestImage], now: list[float]) -> None:
    """As a watched archive."""
    now[0] += 1
    oci_archive(path, images)
    key = str(StatKey.of(path.stat()))
    ids = node.catalog.source_states.settle([(str(path), key, 1)], node.clock())
    job = Job(ids[str(path)], path)
    assert node.imports.run(job, stop=lambda: False, progress=lambda *_: None).state == "imported"


def test_earlier_versions_go_first_and_then_what_nothing_backs_the_oldest_first(
    node: Node, now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "app.tar"
    for number in range(3):
        drop(node, app, {f"{NAME}:1": image(f"version {number}")}, now)
    for number in range(3):
        drop(node, tmp_path / f"{number}.tar", {f"{NAME}:gone-{number}": image(number)}, now)
    for number in (1, 0, 2):
        now[0] += 1
        node.remove({str(tmp_path / f"{number}.tar"): "unpin"})
    push_image(node, NAME, image("pushed"), tag="pushed")
    oci_archive(tmp_path / "hand.tar", {f"{NAME}:by-hand": image("by hand")})
    import_now(node, tmp_path / "hand.tar")
    now[0] += 7200

    def names() -> set[str]:
        return {tag.removeprefix(f"{NAME}:") for tag in visible(node)}

    def versions() -> int:
        return sum(map(len, node.catalog.generations().values())) - len(visible(node))

    stay = {"1", "pushed", "by-hand"}
    free = 101 - (Disk(node, monkeypatch, 0).free(tmp_path) // KIB)
    disk = Disk(node, monkeypatch, free)
    told = node.clean(dry_run=True)
    assert told == []
    for left, kept in (
        (1, {"gone-0", "gone-1", "gone-2"}),
        (0, {"gone-0", "gone-1", "gone-2"}),
        (0, {"gone-0", "gone-2"}),
        (0, {"gone-2"}),
        (0, set()),
    ):
        disk.size_bytes -= 101 * KIB
        assert node.garbage.space().low
        assert node.garbage.keep_room(node.clock())
        assert (versions(), names()) == (left, stay | kept)
        assert not node.garbage.space().low
    disk.size_bytes -= 101 * KIB
    assert not node.garbage.keep_room(node.clock())
    assert names() == stay
    reasons = [e.detail for e in node.catalog.events() if e.kind == "tag-removed"]
    assert len(reasons) == 3
    assert all("low_space_bytes" in reason for reason in reasons)


def test_a_dry_run_shows_what_the_lack_of_space_takes_now(
    node: Node, now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        drop(node, tmp_path / f"{number}.tar", {f"{NAME}:{number}": image(number)}, now)
        now[0] += 1
        node.remove({str(tmp_path / f"{number}.tar"): "unpin"})
    now[0] += 7200
    disk = Disk(node, monkeypatch, 0)
    disk.size_bytes = 101 * KIB - disk.free(tmp_path)
    assert node.clean(dry_run=True) == []
    for gone in (1, 3):
        disk.size_bytes -= (gone * 100 - 50) * KIB
        told = node.clean(dry_run=True)
        assert [line.reference for line in told if line.reference] == [
            f"{NAME}:{number}" for number in range(gone)
        ]
        assert all("low_space_percent" in line.reason for line in told if line.reference)
        assert len(visible(node)) == 3
        disk.size_bytes += (gone * 100 - 50) * KIB
    disk.size_bytes -= 250 * KIB
    told, done = node.clean(dry_run=True), node.clean(dry_run=False)
    assert {(line.digest, line.freed_bytes) for line in told} == {
        (line.digest, line.freed_bytes) for line in done
    }
    assert visible(node) == {}


@pytest.mark.parametrize(("setting", "kubelets"), [("40", 0.0), ("auto", 40.0)])
def test_a_percentage_of_the_file_system_is_kept_free_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, kubelets: float
) -> None:
    with node_at(tmp_path / "data", low_space_percent=setting) as node:
        node.garbage.kubelet_percent = lambda _total: kubelets
        clock = [1e6]
        node.clock = node.importer._clock = believed(lambda: clock[0])
        drop(node, tmp_path / "gone.tar", {f"{NAME}:gone": image("gone")}, clock)
        node.remove({str(tmp_path / "gone.tar"): "unpin"})
        clock[0] += 7200
        disk = Disk(node, monkeypatch, 0)
        disk.size_bytes = 410 * KIB - disk.free(tmp_path)
        monkeypatch.setattr("airside.store.gc.total_bytes", lambda _path: 1000 * KIB)
        assert not node.garbage.space().low
        assert not node.garbage.keep_room(node.clock())
        disk.size_bytes -= 20 * KIB
        assert node.garbage.space().low
        assert node.garbage.keep_room(node.clock())
        assert visible(node) == {}
        assert not node.garbage.space().low


def test_an_import_for_which_there_is_no_room_is_tried_again_after_a_collection(
    node: Node, now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(node, tmp_path / "old.tar", {f"{NAME}:old": image("old", 400)}, now)
    drop(node, tmp_path / "kept.tar", {f"{NAME}:kept": image("kept", 400)}, now)
    node.remove({str(tmp_path / "old.tar"): "unpin"})
    Disk(node, monkeypatch, 1000)
    drop(node, tmp_path / "new.tar", {f"{NAME}:new": image("new", 400)}, now)
    assert set(visible(node)) == {f"{NAME}:kept", f"{NAME}:new"}
    assert wrong_blobs(node) == []
    oci_archive(tmp_path / "more.tar", {f"{NAME}:more": image("more", 400)})
    with pytest.raises(StorageFullError):
        import_now(node, tmp_path / "more.tar")
    assert set(visible(node)) == {f"{NAME}:kept", f"{NAME}:new"}
    assert node.store.read_index() is not None
    assert b":old" not in (node.store.read_index() or b"")


def test_room_is_made_before_an_upload_and_what_is_asked_for_by_head_is_remembered(
    node: Node, now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(node, tmp_path / "old.tar", {f"{NAME}:old": image("old", 400)}, now)
    node.remove({str(tmp_path / "old.tar"): "unpin"})
    Disk(node, monkeypatch, 490)
    node.pusher.uploads.cancel(node.pusher.begin(Name("team/app")))
    assert visible(node) == {}
    assert node.pusher.lease_blob(image("old").digest)
    assert node.garbage.leases.active() == {image("old").digest}


def test_what_a_containerd_has_too_is_not_paid_for_with_all_the_rest(
    node: Node, now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        found = image(number)
        drop(node, tmp_path / f"{number}.tar", {f"{NAME}:{number}": found}, now)
        for blob in found.blobs:
            node.store.path(blob.digest).with_name(f"link-{blob.digest.hex[:30]}").hardlink_to(
                node.store.path(blob.digest)
            )
        node.remove({str(tmp_path / f"{number}.tar"): "unpin"})
    disk = Disk(node, monkeypatch, 0)
    disk.size_bytes = 51 * KIB - disk.free(tmp_path)
    used = disk.free(tmp_path)
    monkeypatch.setattr("airside.store.gc.free_bytes", lambda _: used)  # a link gives nothing back
    assert node.garbage.keep_room(node.clock())
    assert set(visible(node)) == {f"{NAME}:{number}" for number in range(1, 4)}


def test_a_collection_in_a_loop_loses_nothing_of_what_is_imported_and_pushed(
    tmp_path: Path,
) -> None:
    """Three threads bring images, tags move and go, and all that should be here is whole."""
    rule = RetentionRule(("pushed/**",), keep_last=3)
    settings = {"retention": 0, "unbacked_after_seconds": 0.0, "retention_rules": (rule,)}
    with node_at(tmp_path / "data", **settings) as node:
        failures: list[BaseException] = []
        done = threading.Event()
        base = random_image("base", layers=1, layer_bytes=2000)

        def layered(label: str) -> TestImage:
            return random_image(label, layers=1, layer_bytes=500, base=base.layers)

        def guarded(work) -> None:
            try:
                work()
            except BaseException as exc:  # noqa: BLE001 - told by the test's thread
                failures.append(exc)

        def collect() -> None:
            while not done.is_set():
                node.clean(dry_run=False)
                node.clean(dry_run=True)

        def imports() -> None:
            for number in range(12):
                path = tmp_path / "app.tar"
                oci_archive(path, {f"{NAME}:1": layered(f"import {number % 5}")})
                import_now(node, path)

        def pushes(repository: str) -> None:
            for number in range(12):
                push_image(node, repository, layered(f"push {number % 5}"), tag=f"t{number}")

        collector = threading.Thread(target=guarded, args=(collect,))
        works = (imports, lambda: pushes("pushed/a"), lambda: pushes("pushed/b"))
        workers = [threading.Thread(target=guarded, args=(work,)) for work in works]
        for thread in (collector, *workers):
            thread.start()
        for thread in workers:
            thread.join(LIMIT_SECONDS)
        done.set()
        collector.join(LIMIT_SECONDS)
        assert failures == []
        node.clock = believed(lambda: 1e12)
        node.clean(dry_run=False)
        newest = {f"{r}:t{n}" for r in ("pushed/a", "pushed/b") for n in (9, 10, 11)}
        assert set(visible(node)) == {f"{NAME}:1"} | newest
        found = [layered("import 1"), *(layered(f"push {n % 5}") for n in (9, 10, 11))]
        assert held(node) == {blob.digest for each in found for blob in each.blobs}
        assert wrong_blobs(node) == []


def test_no_backup_is_written_where_space_is_short(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oci_archive(tmp_path / "hand.tar", {f"{NAME}:by-hand": image("by hand")})
    import_now(node, tmp_path / "hand.tar")
    Disk(node, monkeypatch, 150)
    assert not node.save_catalog()
    with pytest.raises(StorageFullError):
        node.backups.save_catalog(node.catalog)
    assert list((node.settings.data / "backup").glob("catalog*")) == []


def test_a_backup_that_fails_leaves_no_part_of_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"a part")
        raise StorageFullError("the catalog failed: database or disk is full")

    monkeypatch.setattr(node.catalog, "copy_to", fail)
    with pytest.raises(StorageFullError):
        node.save_catalog()
    assert list((node.settings.data / "backup").glob("catalog*")) == []


def test_a_disk_that_fails_ends_no_periodic_backup(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copy = node.settings.data / "backup/catalog-a.db"
    monkeypatch.setattr("airside.store.gc.free_bytes", Mock(side_effect=OSError(EIO, "I/O error")))

    async def back_up() -> None:
        settings = replace(node.settings, backup_seconds=0.01)
        backups = asyncio.create_task(
            Maintenance(node, settings, Mock(), Mock())._back_catalog_up()
        )
        await wait_until_async(lambda: "backup failed" in caplog.text)
        monkeypatch.undo()
        await wait_until_async(copy.exists)
        backups.cancel()

    asyncio.run(back_up())
