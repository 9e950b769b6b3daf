"""Layers are unpacked while their archive is read, and a refused archive leaves nothing of it."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airside.core.failpoints import EARLY
from airside.oci.chain import chain_ids
from support.containerd import Containerd, by_turns
from support.early_node import early_node, never
from support.images import TestImage, docker_archive, flip_bit, oci_archive, random_image
from support.waiting import wait_until
from support.warm import run_until_killed

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare", "mount")]

NAME = "docker.io/airside/app:1"
BIG = 400_000
"""More than a document may have."""
NAMESPACES = (f"early-{number}" for number in itertools.count())


def chains(image: TestImage) -> set[str]:
    return {str(chain) for chain in chain_ids(layer.diff_id for layer in image.layers)}


@pytest.mark.parametrize("kind", ["docker", "oci-gzip", "docker-gz"])
def test_an_image_is_unpacked_before_it_is_named_and_is_then_as_ever(
    tmp_path: Path, shared_containerd: Containerd, kind: str
) -> None:
    packed = "gzip" if kind == "oci-gzip" else "none"
    image = random_image(kind, layers=3, layer_bytes=BIG, compression=packed)
    path = tmp_path / "app.tar"
    write = oci_archive if kind == "oci-gzip" else docker_archive
    write(path, {NAME: image}, compression="gzip" if kind == "docker-gz" else "none")
    socket = shared_containerd.socket
    with early_node(tmp_path / "data", socket, next(NAMESPACES)) as node:
        assert node.take(path).state == "imported"
        wait_until(lambda: node.snapshots == chains(image))
        assert node.names == set()
        assert len(node.leases) == 1
        assert node.record.keys() == chains(image)
        node.publish()
        early = node.held()
        counted = node.runtime.facts.unpacking.layers
    with early_node(tmp_path / "plain", socket, next(NAMESPACES), unpack_by="containerd") as node:
        node.take(path)
        assert node.snapshots == set()
        node.publish()
        shared_containerd.collect()  # the tars that we decompressed for it
        assert node.held() == early
    assert counted == {"airside": 3}


def test_a_refused_archive_leaves_no_snapshot_and_no_lease(
    tmp_path: Path, shared_containerd: Containerd
) -> None:
    image = random_image(1, layers=3, layer_bytes=BIG)
    path = tmp_path / "app.tar"
    docker_archive(path, {NAME: image})
    flip_bit(path, path.read_bytes().index(image.layers[2].raw) + 1_000)
    with early_node(tmp_path / "data", shared_containerd.socket, next(NAMESPACES)) as node:
        assert node.take_slowly(path).state == "rejected"
        assert node.snapshots == node.prepared == set()
        assert node.leases == []
        assert node.record == {}
        assert node.runtime.facts.unpacking.layers.get("airside", 0) > 0


def test_a_layer_of_two_archives_is_written_once_and_stays_if_one_is_refused(
    tmp_path: Path, shared_containerd: Containerd
) -> None:
    base = random_image("base", layers=1, layer_bytes=BIG)
    good, bad = (random_image(n, layers=2, layer_bytes=BIG, base=base.layers) for n in "gb")
    docker_archive(tmp_path / "good.tar", {NAME: good})
    path = tmp_path / "bad.tar"
    docker_archive(path, {"docker.io/airside/bad:1": bad})
    flip_bit(path, path.read_bytes().index(bad.layers[2].raw) + 1_000)
    with (
        early_node(tmp_path / "data", shared_containerd.socket, next(NAMESPACES)) as node,
        ThreadPoolExecutor(2) as pool,
    ):
        taken = [
            pool.submit(node.take_slowly, tmp_path / f"{name}.tar") for name in ("good", "bad")
        ]
        assert [each.result().state for each in taken] == ["imported", "rejected"]
        wait_until(lambda: node.snapshots == chains(good))
        assert len(node.leases) == 1
        made = node.runtime.facts.unpacking.layers["airside"]
        node.publish()
        assert node.names >= {NAME}
        assert node.snapshots == chains(good)
        assert (node.leases, node.record) == ([], {})
    assert made <= len(chains(good) | chains(bad)) - 1


def test_what_is_not_published_goes_with_the_pass(
    tmp_path: Path, shared_containerd: Containerd
) -> None:
    """Of two images of an archive that lacks a layer of one, the whole one is published."""
    whole, other = (random_image(n, layers=2, layer_bytes=BIG) for n in range(2))
    path = tmp_path / "set.tar"
    lost = other.layers[1].digest
    images = {NAME: whole, "docker.io/airside/other:1": other}
    oci_archive(path, images, drop_blobs=[lost])
    with early_node(tmp_path / "data", shared_containerd.socket, next(NAMESPACES)) as node:
        assert node.take_slowly(path).state == "partial"
        wait_until(lambda: node.snapshots >= chains(whole))
        node.publish()
        # a layer that was being written when the pass ended is removed by who writes it
        wait_until(lambda: (node.leases, node.record, node.prepared) == ([], {}, set()))
        assert node.snapshots == chains(whole)


def test_nothing_is_unpacked_early_where_it_is_not_to_be_unpacked(
    tmp_path: Path, shared_containerd: Containerd
) -> None:
    docker_archive(tmp_path / "app.tar", {NAME: random_image(1)})
    with early_node(
        tmp_path / "data", shared_containerd.socket, next(NAMESPACES), unpack="never"
    ) as node:
        node.take(tmp_path / "app.tar")
        assert node.node.runtimes.early() == []
        assert node.snapshots == set()


@pytest.fixture(scope="module")
def set_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "set.tar"
    base = random_image("base", layers=1, layer_bytes=BIG)
    images = [random_image(n, layers=2, layer_bytes=BIG, base=base.layers) for n in range(2)]
    docker_archive(path, {f"docker.io/airside/{n}:1": image for n, image in enumerate(images)})
    return path


@pytest.fixture(scope="module")
def undisturbed(
    shared_containerd: Containerd, set_of_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[object, ...]:
    data = tmp_path_factory.mktemp("data")
    with early_node(data, shared_containerd.socket, next(NAMESPACES)) as node:
        node.take(set_of_images)
        node.publish()
        return node.held()


KILLS = [
    *((point, 1) for point in EARLY),
    *((f"unpack.{point}", n) for point in ("after_prepare", "after_apply") for n in (1, 3)),
    ("unpack.after_commit", 2),
    ("import.before_commit", 1),
    ("import.after_commit", 1),
    ("publish.after_names", 1),
]


@pytest.mark.parametrize(
    ("containerd_version", "point", "number"), by_turns(KILLS), indirect=["containerd_version"]
)
def test_after_a_kill_it_ends_as_if_undisturbed(
    tmp_path: Path,
    shared_containerd: Containerd,
    set_of_images: Path,
    undisturbed: tuple[object, ...],
    point: str,
    number: int,
) -> None:
    namespace, data = next(NAMESPACES), tmp_path / "data"
    where = (shared_containerd.socket, namespace, data, set_of_images)
    run_until_killed("support.early_node", *where, fault=f"{point}=kill@{number}")
    with early_node(data, shared_containerd.socket, namespace) as node:
        assert not node.prepared
        if not node.names:
            assert (node.snapshots, node.leases, node.record) == (set(), [], {})
        node.take(set_of_images)
        node.publish()
        assert node.held() == undisturbed


def test_containerd_is_killed_while_it_unpacks_early(
    tmp_path: Path, containerd: Containerd, set_of_images: Path
) -> None:
    """The import goes on; what was unpacked goes with the next connection."""
    data = tmp_path / "data"
    with early_node(data, containerd.socket, "early") as node:

        def progress(done: int, total: int) -> None:
            if done == total and node.connection.runtime is not None:
                wait_until(lambda: node.snapshots)
                containerd.kill()
                node.connection.close()

        found = node.node.imports.import_file(set_of_images, stop=never, progress=progress)
        assert found.state == "imported"
    containerd.start()
    with early_node(data, containerd.socket, "early") as node:
        assert len(node.names) == 2 * 2  # each by its tag and by its digest
        assert (node.leases, node.record, node.prepared) == ([], {}, set())
