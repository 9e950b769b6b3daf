"""OCI layouts that are directories: what real tools write, copies that go on, damage, changes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.archive.directory import is_archive_directory, iter_directories, stat_key
from airside.cli.main import main
from airside.core.settings import Limits
from airside.importer.importer import Job, Outcome
from support.images import (
    TestImage,
    docker_archive,
    oci_archive,
    oci_layout,
    random_image,
    random_index,
)
from support.nodes import import_now, node_at, visible
from support.skopeo import run, skopeo

NAME = "registry.example/app:1"


def _image(seed: object, platform: str = "linux/amd64") -> TestImage:
    return random_image(seed, layers=2, layer_bytes=3000, platform=platform)


def _blob(directory: Path, image: TestImage, number: int = 0) -> Path:
    return directory / "blobs" / "sha256" / image.layers[number].digest.hex


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, TestImage]:
    image = _image("a")
    oci_layout(tmp_path / "layout", {NAME: image})
    return tmp_path / "layout", image


def _import(node: Node, path: Path) -> Outcome:
    return import_now(node, path)


def test_a_layout_is_imported_as_it_is(tmp_path: Path, layout: tuple[Path, TestImage]) -> None:
    directory, image = layout
    with node_at(tmp_path / "data") as node:
        assert _import(node, directory).state == "imported"
        assert visible(node) == {NAME: image.manifest.digest}
        [archive] = node.catalog.sources()
        assert (archive.format, archive.compression) == ("oci-layout", "directory")
        assert archive.size_bytes == sum(
            p.stat().st_size for p in directory.rglob("*") if p.is_file()
        )
        assert archive.notes == ()


def test_a_lost_catalog_knows_that_a_layout_is_still_there(
    tmp_path: Path, layout: tuple[Path, TestImage]
) -> None:
    directory, image = layout
    older = tmp_path / "older.tar"
    oci_archive(older, {NAME: _image("b")})
    with node_at(tmp_path / "data") as node:
        for path in (older, directory):
            key = stat_key(path)
            [number] = node.catalog.source_states.settle(
                [(str(path), str(key), key.size_bytes)], 1.0
            ).values()
            node.importer.run(Job(number, path), stop=lambda: False, progress=lambda *_: None)
    for path in (tmp_path / "data").glob("catalog.db*"):
        path.unlink()
    with node_at(tmp_path / "data") as node:
        assert visible(node) == {NAME: image.manifest.digest}
        assert {row.path: row.state for row in node.catalog.sources()} == dict.fromkeys(
            (str(older), str(directory)), "imported"
        )


@pytest.mark.needs("skopeo")
def test_skopeo_adds_images_to_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "oci"
    archives = {}
    for tag in ("1", "2"):
        index = random_index(tag, layers=1, layer_bytes=2000)
        archives[f"registry.example/app:{tag}"] = index.index.digest
        oci_archive(tmp_path / f"{tag}.tar", {f"registry.example/app:{tag}": index})
    keys = []
    with node_at(tmp_path / "data") as node:
        for number, name in enumerate(archives, 1):
            source = f"oci-archive:{tmp_path / f'{number}.tar'}:{name}"
            skopeo("copy", "--all", "--preserve-digests", source, f"oci:{directory}:{name}")
            keys.append(stat_key(directory))
            assert _import(node, directory).state == "imported"
            assert visible(node) == dict(list(archives.items())[:number])
    assert keys[0] != keys[1]
    assert stat_key(directory) == keys[1]


@pytest.mark.needs("umoci")
def test_a_layout_of_umoci_is_imported_by_digest(tmp_path: Path) -> None:
    directory = tmp_path / "oci"
    run("umoci", "init", "--layout", directory)
    run("umoci", "new", "--image", f"{directory}:latest")
    with node_at(tmp_path / "data") as node:
        outcome = _import(node, directory)
        assert outcome.state == "imported"
        [row] = node.catalog.images()
        assert row.repository.path == "unnamed/oci"
        index = json.loads((directory / "index.json").read_bytes())
        assert row.digest == index["manifests"][0]["digest"]


def test_the_store_of_a_node_seeds_another(tmp_path: Path) -> None:
    index = random_index("seed", layers=1, layer_bytes=2000)
    oci_archive(tmp_path / "a.tar", {NAME: index, "docker.io/library/tool:2": _image("b")})
    with node_at(tmp_path / "one") as node:
        _import(node, tmp_path / "a.tar")
        expected = visible(node)
    with node_at(tmp_path / "two") as node:
        assert _import(node, tmp_path / "one" / "oci").state == "imported"
        assert visible(node) == expected


@pytest.mark.parametrize("lacking", ["index.json", "a layer", "a cut layer", "half an index"])
def test_a_copy_that_goes_on_is_incomplete_then_whole(
    tmp_path: Path, layout: tuple[Path, TestImage], lacking: str
) -> None:
    directory, image = layout
    path = _blob(directory, image) if "layer" in lacking else directory / "index.json"
    whole = path.read_bytes()
    if lacking in {"index.json", "a layer"}:
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2])
    with node_at(tmp_path / "data") as node:
        outcome = _import(node, directory)
        assert outcome.state == "incomplete", outcome
        assert visible(node) == {}
        before = stat_key(directory)
        path.write_bytes(whole)
        assert stat_key(directory) != before
        assert _import(node, directory).state == "imported"
        assert visible(node) == {NAME: image.manifest.digest}


def test_of_a_directory_what_is_whole_is_taken(tmp_path: Path) -> None:
    good, bad = _image("good"), _image("bad")
    directory = tmp_path / "layout"
    oci_layout(directory, {NAME: good, "registry.example/bad:1": bad})
    _blob(directory, bad).unlink()
    with node_at(tmp_path / "data") as node:
        outcome = _import(node, directory)
        assert outcome.state == "partial"
        assert visible(node) == {NAME: good.manifest.digest}
        assert outcome.problems[0].image == "registry.example/bad:1"


def test_a_damaged_blob_is_rejected_by_name(tmp_path: Path, layout: tuple[Path, TestImage]) -> None:
    directory, image = layout
    path = _blob(directory, image)
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    with node_at(tmp_path / "data") as node:
        outcome = _import(node, directory)
        assert outcome.state == "rejected"
        assert image.layers[0].digest.hex in outcome.reason
        assert visible(node) == {}


def test_only_regular_files_are_read(tmp_path: Path, layout: tuple[Path, TestImage]) -> None:
    directory, image = layout
    path = _blob(directory, image)
    path.unlink()
    os.mkfifo(path)
    (directory / "blobs" / "sha256" / "loop").symlink_to("loop")
    with node_at(tmp_path / "data") as node:
        assert _import(node, directory).state == "incomplete"


def test_blobs_may_be_links_to_a_shared_store(
    tmp_path: Path, layout: tuple[Path, TestImage]
) -> None:
    directory, image = layout
    shared = tmp_path / "shared"
    (directory / "blobs").rename(shared)
    (directory / "blobs").symlink_to(shared)
    moved = shared / "sha256" / image.layers[0].digest.hex
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    with node_at(tmp_path / "data") as node:
        assert _import(node, directory).state == "imported"


def test_links_that_lead_nowhere_are_passed_over(
    tmp_path: Path, layout: tuple[Path, TestImage]
) -> None:
    directory, image = layout
    for where in (directory, directory / "blobs"):
        (where / "absent").symlink_to("nothing")
        (where / "below a file").symlink_to(directory / "oci-layout" / "x")
        (where / "circle").symlink_to("circle")
    with node_at(tmp_path / "data") as node:
        assert _import(node, directory).state == "imported"
        assert visible(node) == {NAME: image.manifest.digest}
    assert {path.name for path in iter_directories(directory)} == {"layout", "blobs", "sha256"}


def test_a_held_blob_is_hashed_and_not_written(tmp_path: Path) -> None:
    image = _image("same")
    oci_archive(tmp_path / "a.tar", {NAME: image})
    oci_layout(tmp_path / "layout", {NAME: image})
    with node_at(tmp_path / "data") as node:
        _import(node, tmp_path / "a.tar")
        assert _import(node, tmp_path / "layout").new_blobs == 0


def test_too_many_files_are_refused(tmp_path: Path, layout: tuple[Path, TestImage]) -> None:
    directory, _ = layout
    with node_at(tmp_path / "data", limits=Limits(members=3)) as node:
        outcome = _import(node, directory)
        assert outcome.state == "rejected"
        assert "limits.members" in outcome.reason


def test_the_key_tells_every_change(layout: tuple[Path, TestImage]) -> None:
    directory, image = layout
    seen = {stat_key(directory)}
    path = _blob(directory, image)
    os.utime(path, ns=(1, 1))
    seen.add(stat_key(directory))
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    seen.add(stat_key(directory))
    path.unlink()
    seen.add(stat_key(directory))
    (directory / "new").write_bytes(b"")
    seen.add(stat_key(directory))
    assert len(seen) == 5
    assert is_archive_directory(directory)
    assert not is_archive_directory(directory.parent / "absent")
    assert not is_archive_directory(directory / "blobs")


@pytest.mark.needs("skopeo")
def test_a_dir_copy_is_refused_with_what_to_do(
    tmp_path: Path, layout: tuple[Path, TestImage]
) -> None:
    directory, _ = layout
    skopeo("copy", f"oci:{directory}:{NAME}", f"dir:{tmp_path / 'copy'}")
    assert is_archive_directory(tmp_path / "copy")
    with node_at(tmp_path / "data") as node:
        outcome = _import(node, tmp_path / "copy")
        assert outcome.state == "rejected"
        assert "dir:" in outcome.reason


def test_the_storage_of_a_registry_is_refused_with_what_to_do(tmp_path: Path) -> None:
    storage = tmp_path / "docker/registry/v2"
    (storage / "blobs/sha256/aa" / ("a" * 64)).mkdir(parents=True)
    assert is_archive_directory(storage)
    with node_at(tmp_path / "data") as node:
        outcome = _import(node, storage)
        assert outcome.state == "rejected"
        assert "start a registry on it" in outcome.reason


def test_an_unpacked_docker_archive_is_read_too(tmp_path: Path) -> None:
    expected = docker_archive(tmp_path / "a.tar", {"app:1": random_image(1, media="docker")})
    shutil.unpack_archive(tmp_path / "a.tar", tmp_path / "unpacked", filter="data")
    with node_at(tmp_path / "data") as node:
        assert _import(node, tmp_path / "unpacked").state == "imported"
        assert visible(node) == expected


def test_the_commands_take_directories(
    tmp_path: Path, layout: tuple[Path, TestImage], capsys: pytest.CaptureFixture[str]
) -> None:
    directory, _ = layout
    assert main(["inspect", str(directory)]) == 0
    assert NAME in capsys.readouterr().out
    alone = ["--runtime", "none", "--data", str(tmp_path / "data")]
    assert main(["import", str(directory), *alone]) == 0
    assert main(["inspect", str(tmp_path / "absent")]) == 1
    with node_at(tmp_path / "data") as node:
        assert NAME in visible(node)
