"""What a runtime is offered while an archive is read, in which order, and how that ends."""

import gzip
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.archive import ingest
from airside.core.errors import StoppedError
from support.early import MemoryEarly, OneRuntime
from support.images import (
    TestImage,
    docker_archive,
    flip_bit,
    oci_archive,
    oci_layout,
    random_image,
    truncate,
)
from support.nodes import import_now, node_at, visible

NAME = "docker.io/airside/app:1"
BIG = 400_000
"""More than a document may have, so that layers are told from documents."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_at(tmp_path / "data", platform="linux/amd64") as node:
        yield node


@pytest.fixture
def early(node: Node) -> MemoryEarly:
    made = MemoryEarly()
    node.runtimes.add("/run/a.sock", OneRuntime(made))
    return made


def app() -> TestImage:
    return random_image(1, layers=3, layer_bytes=BIG)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("write", [docker_archive, oci_archive])
def test_every_layer_is_offered_with_its_bytes(
    tmp_path: Path, node: Node, early: MemoryEarly, write, compression: str
) -> None:
    image = app()
    write(tmp_path / "app.tar", {NAME: image}, compression=compression)
    assert import_now(node, tmp_path / "app.tar").state == "imported"
    assert early.images == [tuple(layer.diff_id for layer in image.layers)]
    assert early.read == {layer.digest: layer.digest for layer in image.layers}
    assert early.end == "keep"
    assert all(early.can_open(layer.digest) for layer in image.layers)


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_compressed_layers_are_offered_under_their_diff_ids(
    tmp_path: Path, node: Node, early: MemoryEarly, packed: str
) -> None:
    image = random_image(1, layers=2, layer_bytes=BIG, compression=packed)
    oci_archive(tmp_path / "app.tar", {NAME: image})
    import_now(node, tmp_path / "app.tar")
    assert sorted(early.layers) == sorted(layer.diff_id for layer in image.layers)
    assert early.read == {layer.digest: layer.digest for layer in image.layers}


def test_a_layout_directory_is_offered_too(tmp_path: Path, node: Node, early: MemoryEarly) -> None:
    image = app()
    oci_layout(tmp_path / "app", {NAME: image})
    assert import_now(node, tmp_path / "app").state == "imported"
    assert sorted(early.layers) == sorted(layer.diff_id for layer in image.layers)


def test_nothing_is_visible_when_a_layer_is_offered(tmp_path: Path, node: Node) -> None:
    seen = []
    early = MemoryEarly(on_layer=lambda: seen.append((visible(node), node.runtimes.early())))
    node.runtimes.add("/run/a.sock", OneRuntime(early))
    docker_archive(tmp_path / "app.tar", {NAME: app()})
    import_now(node, tmp_path / "app.tar")
    assert [names for names, _ in seen] == [{}] * 3
    assert NAME in visible(node)


def test_the_config_and_the_base_of_the_longest_chain_are_read_first(
    tmp_path: Path, node: Node, early: MemoryEarly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_MEMBER_THREADS", 1)  # of several, any may end first
    base = random_image("base", layers=1, layer_bytes=BIG)
    long = random_image("long", layers=3, layer_bytes=BIG, base=base.layers)
    others = [random_image(n, layers=1, layer_bytes=BIG, base=base.layers) for n in range(3)]
    backwards = {f"docker.io/airside/{n}:1": image for n, image in enumerate([*others, long])}
    docker_archive(tmp_path / "set.tar", backwards)
    import_now(node, tmp_path / "set.tar")
    assert [kind for kind, _ in early.events[1:5]] == ["image"] * 4
    first = [base.layers[0], long.layers[1], long.layers[2]]
    assert list(early.layers)[:3] == [layer.diff_id for layer in first]


def test_layers_before_their_config_are_offered_when_it_comes(
    tmp_path: Path, node: Node, early: MemoryEarly
) -> None:
    image = app()
    docker_archive(tmp_path / "plain.tar", {NAME: image})
    _reversed(tmp_path / "plain.tar", tmp_path / "app.tar.gz")
    assert import_now(node, tmp_path / "app.tar.gz").state == "imported"
    assert early.read == {layer.digest: layer.digest for layer in image.layers}


def _reversed(source: Path, target: Path) -> None:
    """Writes the members of a tar the other way round, compressed."""
    with (
        tarfile.open(source) as tar,
        gzip.open(target, "wb", 1) as out,
        tarfile.open(fileobj=out, mode="w") as made,
    ):
        for member in reversed(tar.getmembers()):
            made.addfile(member, tar.extractfile(member))


def test_an_image_that_is_stored_already_is_offered_from_the_store(
    tmp_path: Path, node: Node, early: MemoryEarly
) -> None:
    image = app()
    docker_archive(tmp_path / "one.tar", {NAME: image})
    docker_archive(tmp_path / "two.tar", {"docker.io/airside/other:1": image})
    import_now(node, tmp_path / "one.tar")
    early.read.clear()
    import_now(node, tmp_path / "two.tar")
    assert early.read == {layer.digest: layer.digest for layer in image.layers}


def test_a_refused_archive_is_withdrawn_and_its_bytes_are_gone(
    tmp_path: Path, node: Node, early: MemoryEarly
) -> None:
    image = app()
    path = tmp_path / "app.tar"
    docker_archive(path, {NAME: image})
    raw = path.read_bytes()
    flip_bit(path, raw.index(image.layers[2].raw) + 1_000)
    assert import_now(node, path).state == "rejected"
    assert set(early.layers) == {layer.diff_id for layer in image.layers[:2]}
    assert early.end == "discard"
    assert not any(map(early.can_open, early.layers))
    assert "keep" not in {kind for kind, _ in early.events}


def test_an_archive_that_ends_early_is_withdrawn(
    tmp_path: Path, node: Node, early: MemoryEarly
) -> None:
    path = tmp_path / "app.tar.gz"
    docker_archive(path, {NAME: app()}, compression="gzip")
    truncate(path, path.stat().st_size * 3 // 4)
    assert import_now(node, path).state == "incomplete"
    assert early.end == "discard"


def test_a_stopped_import_is_withdrawn(tmp_path: Path, node: Node) -> None:
    looks = itertools.count()
    early = MemoryEarly()
    node.runtimes.add("/run/a.sock", OneRuntime(early))
    docker_archive(tmp_path / "app.tar", {NAME: app()})
    with pytest.raises(StoppedError):
        node.imports.import_file(
            tmp_path / "app.tar",
            stop=lambda: next(looks) > 20 or bool(early.layers),
            progress=lambda _done, _all: None,
        )
    assert early.end == "discard"


def test_a_stored_layer_with_wrong_bytes_is_not_offered_where_names_are_trusted(
    tmp_path: Path,
) -> None:
    image = app()
    docker_archive(tmp_path / "one.tar", {NAME: image})
    docker_archive(tmp_path / "two.tar", {"docker.io/airside/other:1": image})
    with node_at(tmp_path / "data", platform="linux/amd64", verify="names") as node:
        import_now(node, tmp_path / "one.tar")
        rotten = image.layers[0].digest
        flip_bit(node.store.path(rotten), 1_000)
        early = MemoryEarly()
        node.runtimes.add("/run/a.sock", OneRuntime(early))
        import_now(node, tmp_path / "two.tar")
        assert set(early.layers) == {layer.diff_id for layer in image.layers} - {rotten}
        assert not early.can_open(rotten)


def test_names_that_are_trusted_are_offered_only_if_they_were_hashed(tmp_path: Path) -> None:
    image = app()
    oci_archive(tmp_path / "one.tar", {NAME: image})
    with node_at(tmp_path / "data", platform="linux/amd64", verify="names") as node:
        import_now(node, tmp_path / "one.tar")
        early = MemoryEarly()
        node.runtimes.add("/run/a.sock", OneRuntime(early))
        oci_archive(tmp_path / "two.tar", {"docker.io/airside/other:1": image})
        import_now(node, tmp_path / "two.tar")
        assert early.layers == []
