"""Self-repair beside running imports: what is being committed is never taken for lost."""

from pathlib import Path

import pytest

from airside.oci.digest import Digest
from support.images import oci_archive, random_image
from support.nodes import import_now, node_at, visible, wrong_blobs


def test_what_is_imported_while_the_store_is_checked_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = oci_archive(tmp_path / "a.tar", {"example.com/app:1": random_image("a")})
    with node_at(tmp_path / "data") as node:
        blobs = node.catalog.blobs

        def import_meanwhile() -> dict[Digest, int]:
            monkeypatch.undo()
            import_now(node, tmp_path / "a.tar")
            return blobs()

        monkeypatch.setattr(node.catalog, "blobs", import_meanwhile)
        assert node.reconcile() == []
        assert visible(node) == expected
        assert node.store.missing([]) == []
        assert set(node.store.digests()) == set(node.catalog.blobs())
        assert [event.kind for event in node.catalog.events()].count("lost") == 0


def test_what_is_collected_while_the_store_is_checked_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = random_image("a")
    oci_archive(tmp_path / "a.tar", {"example.com/app:1": image})
    with node_at(tmp_path / "data", unbacked_after_seconds=0.0) as node:
        import_now(node, tmp_path / "a.tar")
        stat = node.store.stat

        def collect_meanwhile(digest: Digest) -> int | None:
            monkeypatch.undo()
            with node.catalog._transactions.begin("drop") as db:
                db.execute("UPDATE tag SET unbacked_since = 0")
                db.execute("DELETE FROM claim")
            node.collect_garbage()
            return stat(digest)

        monkeypatch.setattr(node.store, "stat", collect_meanwhile)
        assert node.reconcile() == []
        assert list(node.store.digests()) == []
        assert "lost" not in [event.kind for event in node.catalog.events()]


def test_what_is_imported_again_while_garbage_is_deleted_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = random_image("a"), random_image("b")
    oci_archive(tmp_path / "a.tar", {"example.com/app:1": image, "example.com/other:1": other})
    oci_archive(tmp_path / "b.tar", {"example.com/again:1": image})
    with node_at(tmp_path / "data", unbacked_after_seconds=0.0) as node:
        import_now(node, tmp_path / "a.tar")
        with node.catalog._transactions.begin("drop") as db:
            db.execute("UPDATE tag SET unbacked_since = 0")
            db.execute("DELETE FROM claim")

        def import_meanwhile() -> None:
            monkeypatch.undo()
            import_now(node, tmp_path / "b.tar")

        monkeypatch.setattr(node.guard, "give_way", import_meanwhile)
        lines = node.clean(dry_run=False)
        assert {line.reference for line in lines} == {"example.com/app:1", "example.com/other:1"}
        assert visible(node) == {"example.com/again:1": image.digest}
        assert set(node.store.digests()) == {blob.digest for blob in image.blobs}
        freed = {line.reference: line.freed_bytes for line in lines}
        assert freed["example.com/app:1"] == 0
        assert freed["example.com/other:1"] == sum(blob.size_bytes for blob in other.blobs)


@pytest.mark.parametrize("damage", ["absent", "short"])
def test_what_is_lost_is_read_again(damage: str, tmp_path: Path) -> None:
    image = random_image("a")
    oci_archive(tmp_path / "a.tar", {"example.com/app:1": image})
    with node_at(tmp_path / "data") as node:
        import_now(node, tmp_path / "a.tar")
        blob = node.store.path(image.layers[0].digest)
        blob.unlink()
        if damage == "short":
            blob.write_bytes(b"short")
        assert [path for _, path in node.reconcile()] == [tmp_path / "a.tar"]
        assert not blob.exists()
        import_now(node, tmp_path / "a.tar")
        assert blob.exists()
        assert wrong_blobs(node) == []
        assert node.reconcile() == []
