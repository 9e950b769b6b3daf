"""Layers of docker-archives in every compression: checked, kept, and told if not runnable."""

from pathlib import Path

import pytest

from support.images import docker_archive, random_image
from support.nodes import import_now, node_at, visible


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lz4", "bzip2", "xz"])
def test_a_compressed_layer_is_checked_and_kept_as_it_is(tmp_path: Path, compression: str) -> None:
    image = random_image(1, layers=2, media="docker", compression=compression)
    expected = docker_archive(tmp_path / "a.tar", {"app:1": image})
    with node_at(tmp_path / "data") as node:
        assert import_now(node, tmp_path / "a.tar").state == "imported"
        assert visible(node) == expected
        assert {layer.digest for layer in image.layers} <= set(node.store.digests())
        [archive] = node.catalog.sources()
        told = [note for note in archive.notes if "cannot run it" in note]
        runnable = compression in {"gzip", "zstd"}
        assert len(told) == (0 if runnable else 2), archive.notes
        assert all(compression in note for note in told)


@pytest.mark.parametrize("compression", ["lz4", "bzip2", "xz"])
def test_a_damaged_layer_is_found_by_its_diff_id(tmp_path: Path, compression: str) -> None:
    image = random_image(1, layers=1, media="docker", compression=compression)
    other = random_image(2, layers=1, media="docker", compression=compression)
    docker_archive(tmp_path / "a.tar", {"app:1": image})
    raw = (tmp_path / "a.tar").read_bytes()
    layer = image.layers[0].raw
    damaged = (other.layers[0].raw + bytes(len(layer)))[: len(layer)]
    (tmp_path / "a.tar").write_bytes(raw.replace(layer, damaged))
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, tmp_path / "a.tar")
        assert outcome.state == "rejected"
        assert "layer" in outcome.reason
        assert visible(node) == {}
