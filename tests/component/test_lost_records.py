"""A lost or damaged catalog: nothing that a record or blob explains is deleted, all is told."""

import shutil
from pathlib import Path
from random import Random
from unittest.mock import Mock

import pytest

from airside.agent.node import Node
from airside.catalog.catalog import Catalog
from airside.core.settings import Limits
from airside.diagnostics.reports import status_report
from airside.oci.digest import Digest
from airside.oci.model import OCI_INDEX
from airside.store.index_seal import index_generation, is_intact
from airside.store.lost_records import LOST_RECORDS
from support.damage import flipped
from support.images import TestBlob, compact, oci_archive, random_image
from support.nodes import import_now, node_at, not_held, visible
from support.pushes import push, push_blobs, push_image, repository_of
from support.size import sized

RECORDS = ("catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.commits", "catalog.clean")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def stock(data: Path) -> dict[str, Digest]:
    """Two pushed names, one push by digest."""
    with node_at(data) as node:
        for number in (1, 2):
            push_image(node, "team/app", random_image(number), tag=str(number))
        push_image(node, "team/app", random_image("unnamed"))
        node.importer.write_index()
        return visible(node)


def lose(data: Path, *, index: bool, backup: bool = False) -> None:
    for name in RECORDS:
        (data / name).unlink(missing_ok=True)
    if index:
        (data / "oci/index.json").unlink()
    if backup:
        shutil.rmtree(data / "backup")


def held(data: Path) -> set[str]:
    return {path.name for path in (data / "oci/blobs/sha256").iterdir()}


def told(node: Node) -> dict[str, object]:
    found: dict[str, object] = status_report(node.catalog)["lost_records"]
    return found


def test_names_come_from_the_backup_where_catalog_and_index_are_gone(data: Path) -> None:
    names, blobs = stock(data), held(data)
    lose(data, index=True)
    with node_at(data) as node:
        assert visible(node) == names
        assert told(node)["reason"] == "catalog.db is absent"
        assert str(told(node)["restored_from"]).startswith("backup/index-")
    assert held(data) == blobs


@pytest.mark.parametrize("index", ["absent", "empty", "cut", "flipped"])
def test_without_any_record_every_blob_stays_and_documents_are_found(
    index: str, data: Path
) -> None:
    names = stock(data)
    with node_at(data) as node:
        push_blobs(node, "team/app", random_image("alone").layers[:1])
    blobs = held(data)
    raw = (data / "oci/index.json").read_bytes()
    lose(data, index=index == "absent", backup=True)
    damaged = {"empty": b"", "cut": raw[: len(raw) // 2], "flipped": flipped(raw, 300, 1)}
    if index in damaged:
        (data / "oci/index.json").write_bytes(damaged[index])
    with node_at(data) as node:
        node.reconcile()
        assert held(data) == blobs
        where = repository_of("recovered")
        for digest in names.values():
            assert node.catalog.document_by_digest(where, digest) is not None
        assert told(node)["documents"] == 3
        assert status_report(node.catalog)["blobs_unknown"] == 1
        assert bool(told(node)["set_aside"]) == (index in damaged)
    with node_at(data) as node:  # told until somebody acknowledges it
        assert told(node) is not None
        assert node.acknowledge_loss()
        assert told(node) is None
        assert [line.blobs for line in node.clean(dry_run=True, unknown=True)] == [1]
        assert held(data) == blobs
        node.clean(dry_run=False, unknown=True)
        assert status_report(node.catalog)["blobs_unknown"] == 0
    assert len(held(data)) == len(blobs) - 1


def test_an_unknown_blob_that_is_pushed_again_is_known(data: Path) -> None:
    layer = random_image("alone").layers[:1]
    with node_at(data) as node:
        push_blobs(node, "team/app", layer)
    lose(data, index=True, backup=True)
    with node_at(data) as node:
        assert list(node.catalog.unknown_blobs()) == [blob.digest for blob in layer]
        push_blobs(node, "team/app", layer)
        assert node.catalog.unknown_blobs() == {}
        assert node.clean(dry_run=False, unknown=True) == []
        assert len(held(data)) == 1


@pytest.mark.parametrize("damage", ["cut", "garbage", "flipped", "exchanged"])
def test_a_damaged_catalog_is_set_aside_and_rebuilt_after_a_clean_stop(
    damage: str, data: Path, tmp_path: Path
) -> None:
    names, path = stock(data), data / "catalog.db"
    raw = path.read_bytes()
    with node_at(tmp_path / "other"):
        pass
    other = (tmp_path / "other/catalog.db").read_bytes()
    at = raw.index(str(names["team/app:1"]).encode()) + 20
    path.write_bytes(
        {
            "cut": raw[: len(raw) // 2],
            "garbage": b"\xff" * 4096 + raw[4096:],
            "flipped": flipped(raw, at, 0),
            "exchanged": other,
        }[damage]
    )
    with node_at(data) as node:
        assert visible(node) == names
        [aside] = told(node)["set_aside"]  # type: ignore[misc]
        assert Path(aside).parent == data / "damaged"
    with node_at(data) as node:
        assert visible(node) == names


def unclean_copy(data: Path, target: Path) -> None:
    """What a `kill -9` leaves: the files as they are now."""
    shutil.copytree(data, target, ignore=shutil.ignore_patterns("*.sock", "lock"))


@pytest.mark.parametrize("loss", ["absent", "cut"])
def test_transactions_lost_with_the_log_delete_no_blob(
    loss: str, data: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    stock(data)
    with node_at(data) as node:
        push_image(node, "team/app", random_image("late"), tag="late")
        names = visible(node)
        node.importer.write_index()
        unclean_copy(data, killed)
    blobs = held(killed)
    log = killed / "catalog.db-wal"
    log.write_bytes(b"") if loss == "absent" else log.write_bytes(log.read_bytes()[:100])
    with node_at(killed) as node:
        assert visible(node) == names
        assert "changes of catalog.db are missing" in str(told(node)["reason"])
    assert held(killed) == blobs


def test_blobs_that_say_they_are_documents_of_anything_do_not_end_a_recovery(data: Path) -> None:
    """A layer may be any bytes: indexes nested without end, or of layers as large as the disk."""

    def index_of(child: TestBlob) -> TestBlob:
        size = child.size_bytes
        entry = {"mediaType": OCI_INDEX, "digest": str(child.digest), "size": size}
        return TestBlob(compact({"schemaVersion": 2, "manifests": [entry]}), OCI_INDEX)

    large = TestBlob(bytes(2 << 20), "")
    blobs = [index_of(TestBlob(b"absent", "")), large, index_of(large)]
    for _ in range(400):
        blobs.append(index_of(blobs[-1]))
    limits = Limits(document_bytes=1 << 20)
    with node_at(data, limits=limits) as node:
        push_blobs(node, "team/app", blobs)
    lose(data, index=True, backup=True)
    with node_at(data, limits=limits) as node:
        assert node.catalog.unknown_blobs().keys() == {blob.digest for blob in blobs}


@pytest.mark.parametrize("loss", ["log", "catalog"])
def test_a_recovery_that_is_killed_goes_on_at_the_next_start(
    loss: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "killed"
    stock(data)
    with node_at(data) as node:
        push_image(node, "team/app", random_image("late"))
        unclean_copy(data, killed)
    blobs = held(killed)
    if loss == "log":
        (killed / "catalog.db-wal").write_bytes(b"")
    else:
        lose(killed, index=True, backup=True)
        Catalog(killed / "catalog.db", not_held).close()  # it can be read, and has no records
    for step in ("reconcile.check_present", "recovery.recover_documents"):
        with monkeypatch.context() as dies:
            dies.setattr(f"airside.store.{step}", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt), node_at(killed):
                pass
    with node_at(killed) as node:
        node.reconcile()
        assert told(node) is not None
        assert held(killed) == blobs


def test_an_undamaged_catalog_is_neither_set_aside_nor_told(data: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    names = stock(data)
    oci_archive(tmp_path / "a.tar", {"example.com/app:1": random_image("a")})
    with node_at(data) as node:
        names |= {"example.com/app:1": random_image("a").digest}
        import_now(node, tmp_path / "a.tar")
        unclean_copy(data, killed)
    for each in (data, killed):
        with node_at(each) as node:
            assert visible(node) == names
            assert not node.catalog.meta(LOST_RECORDS)
            assert not (each / "damaged").exists()


def test_a_document_that_escapes_its_digests_is_no_damage(data: Path, tmp_path: Path) -> None:
    killed, image = tmp_path / "killed", random_image("escaped")
    manifest, *needed = image.blobs
    hexes = [blob.digest.hex for blob in needed]
    raw = manifest.raw
    for text in hexes:
        raw = raw.replace(text.encode(), b"\\u%04x" % ord(text[0]) + text[1:].encode())
    escaped = TestBlob(raw, manifest.media_type)
    with node_at(data) as node:
        push(node, "team/app", [escaped, *needed], tag="1")
        names = visible(node)
        unclean_copy(data, killed)
    with node_at(killed) as node:
        assert visible(node) == names == {"team/app:1": escaped.digest}
        assert told(node) is None


def test_a_copy_of_the_catalog_serves_where_it_is_the_newest(data: Path) -> None:
    names = stock(data)
    with node_at(data) as node:
        node.save_catalog()
    lose(data, index=True)
    for path in (data / "backup").glob("index-*"):
        path.unlink()
    with node_at(data) as node:
        assert visible(node) == names
        assert told(node)["restored_from"] == "backup/catalog-a.db"


def test_a_copy_of_the_catalog_is_better_than_an_index_of_the_same_generation(data: Path) -> None:
    where = repository_of("team/app")
    with node_at(data) as node:
        for label in ("first", "second"):
            push_image(node, "team/app", random_image(label), tag="1")
        assert node.save_catalog()
    lose(data, index=False)
    with node_at(data) as node:
        assert told(node)["restored_from"] == "backup/catalog-a.db"
        assert told(node)["names"] == 1
        assert node.roll_back(where, "1").after == str(random_image("first").digest)


def test_a_damaged_copy_is_not_used(data: Path) -> None:
    stock(data)
    with node_at(data) as node:
        node.save_catalog()
    lose(data, index=True)
    for path in (data / "backup").iterdir():
        path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 2, 3))
    with node_at(data) as node:
        assert visible(node) == {}
        assert told(node)["documents"] == 3


def test_every_flipped_bit_of_the_index_is_seen(data: Path) -> None:
    stock(data)
    raw = (data / "oci/index.json").read_bytes()
    assert is_intact(raw)
    rng = Random(1)
    content = raw.rindex(b',"dev.airside.checksum"')
    for _ in range(sized(200, 20_000)):
        assert index_generation(flipped(raw, rng.randrange(content), rng.randrange(8))) < 0
