"""The rebuild of a lost catalog hashes each blob at most once, and only without a recent proof."""

import os
from collections import Counter
from pathlib import Path

import pytest

from airside.oci.digest import Digest
from airside.store import whole_images
from airside.store.local import LocalStore
from support.images import random_image
from support.nodes import node_at, visible
from support.pushes import push_image

RECORDS = ("catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.commits", "catalog.clean")
IMAGE = random_image("one", layers=2, layer_bytes=300_000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with an image that two names share, and its catalog lost."""
    data = tmp_path / "data"
    with node_at(data) as node:
        for tag in ("1", "2"):
            push_image(node, "team/app", IMAGE, tag=tag)
        node.importer.write_index()
    for name in RECORDS:
        (data / name).unlink(missing_ok=True)
    return data


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[Digest]:
    """Counts how often each blob is hashed by its file."""
    counts: Counter[Digest] = Counter()
    hash_blob = LocalStore.hash_blob

    def counting(store: LocalStore, digest: Digest) -> Digest:
        counts[digest] += 1
        return hash_blob(store, digest)

    monkeypatch.setattr(LocalStore, "hash_blob", counting)
    return counts


def forget_proofs(data: Path) -> None:
    for path in data.glob("verified*"):
        path.unlink()


@pytest.mark.parametrize("large_bytes", [1, 1 << 30], ids=["ahead", "in turn"])
def test_each_blob_is_hashed_once_without_proofs(
    large_bytes: int, data: Path, hashed: Counter[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_images, "_LARGE_BYTES", large_bytes)
    forget_proofs(data)
    with node_at(data) as node:
        assert len(visible(node)) == 2
    assert {layer.digest for layer in IMAGE.layers} <= set(hashed)
    assert max(hashed.values()) == 1


def test_a_layer_with_a_recent_proof_is_not_hashed(data: Path, hashed: Counter[Digest]) -> None:
    with node_at(data) as node:
        assert len(visible(node)) == 2
    assert not hashed


def test_a_layer_that_changed_since_its_proof_leaves_its_names_out(data: Path) -> None:
    digest = IMAGE.layers[0].digest
    path = data / "oci/blobs" / digest.algorithm / digest.hex
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"x")
    os.utime(path, ns=(1, 1))
    with node_at(data) as node:
        assert not visible(node)


def test_a_layer_of_another_inode_is_hashed_again(data: Path, hashed: Counter[Digest]) -> None:
    digest = IMAGE.layers[1].digest
    path = data / "oci/blobs" / digest.algorithm / digest.hex
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    with node_at(data) as node:
        assert len(visible(node)) == 2
    assert set(hashed) == {digest}
