"""What an import says of images that are no ordinary image of the node."""

import dataclasses
import gzip
import logging
from pathlib import Path

import pytest

from airside.agent.outcome_log import log_outcome
from airside.cli.inspect_archive import inspect_file
from airside.core.settings import Settings
from airside.importer.importer import Outcome
from support.images import (
    docker_archive,
    image_of,
    layer_of,
    oci_archive,
    random_image,
    random_index,
    random_layer,
)
from support.layer_members import REFUSED, tar_of
from support.odd_images import LINUX, ODD, OTHER, OddImage, write_layout

NAME = "registry.example/app:1"
SETTINGS = Settings(platform="linux/amd64")


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_image_is_imported_and_what_is_odd_is_noted(tmp_path: Path, kind: str) -> None:
    archive = write_layout(tmp_path / "odd.tar", {NAME: ODD[kind]})
    found = inspect_file(SETTINGS, archive, quiet=True)
    assert (found["state"], found["problems"]) == ("imported", [])
    assert [image["references"] for image in found["images"]] == [[NAME]]
    if ODD[kind].noted:
        assert ODD[kind].noted in " ".join(found["notes"])
    else:
        assert found["notes"] == []


@pytest.mark.parametrize("media", ["docker", "oci"])
def test_an_only_manifest_of_another_platform_is_noted(tmp_path: Path, media: str) -> None:
    archive = tmp_path / "mislabelled.tar"
    write = docker_archive if media == "docker" else oci_archive
    write(archive, {NAME: random_image(1, platform="linux/s390x")})
    [note] = inspect_file(SETTINGS, archive, quiet=True)["notes"]
    assert f"{NAME}: its config says linux/s390x, this node is linux/amd64: published" in note
    strict = dataclasses.replace(SETTINGS, other_platforms="none")
    [note] = inspect_file(strict, archive, quiet=True)["notes"]
    assert note == f"{NAME} is not for this node, linux/amd64 (has: linux/s390x)"


def test_an_image_that_lists_no_platform_of_the_node_is_noted(tmp_path: Path) -> None:
    archive = tmp_path / "others.tar"
    oci_archive(archive, {NAME: random_index(1, ("linux/arm64", "linux/s390x"))})
    [note] = inspect_file(SETTINGS, archive, quiet=True)["notes"]
    assert note == f"{NAME} is not for this node, linux/amd64 (has: linux/arm64, linux/s390x)"


@pytest.mark.parametrize("image", [OddImage(listed=LINUX), OddImage(rooted=LINUX)])
def test_listed_platforms_are_those_of_the_index(tmp_path: Path, image: OddImage) -> None:
    image = dataclasses.replace(image, platform=OTHER)
    archive = write_layout(tmp_path / "odd.tar", {NAME: image})
    documents = inspect_file(SETTINGS, archive, quiet=True)["documents"]
    platforms = {each["platform"] for each in documents if each["kind"] == "manifest"}
    assert platforms == {"linux/amd64"}


def test_many_notes_are_counted(tmp_path: Path) -> None:
    names = {
        f"registry.example/app{n}:1": random_image(n, platform="linux/arm64") for n in range(9)
    }
    docker_archive(tmp_path / "many.tar", names)
    notes = inspect_file(SETTINGS, tmp_path / "many.tar", quiet=True)["notes"]
    assert notes[-1] == "6 more such notes"
    assert len(notes) == 4


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("media", ["docker", "oci"])
def test_a_member_that_containerd_refuses_is_noted_by_layer(
    tmp_path: Path, media: str, compression: str, packed: str
) -> None:
    sparse, name = REFUSED["gnu-sparse"]
    layers = [random_layer(1, media=media), layer_of(tar_of(sparse), compression=compression)]
    archive = tmp_path / "sparse.tar"
    write = docker_archive if media == "docker" else oci_archive
    write(archive, {NAME: image_of(layers, media=media)})
    if packed:
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    found = inspect_file(SETTINGS, archive, quiet=True)
    assert found["state"] == "imported"
    [note] = [note for note in found["notes"] if "sparse file" in note]
    assert note.startswith(f"{NAME}: layer 2 (sha256:")
    assert f"member {name!r} is a GNU sparse file, which containerd refuses to unpack" in note
    assert "without --sparse" in note


def test_the_log_line_of_an_import_says_what_is_odd(caplog: pytest.LogCaptureFixture) -> None:
    note = f"{NAME} is not for this node, linux/amd64 (has: linux/arm64)"
    with caplog.at_level(logging.INFO):
        log_outcome(Outcome(Path("/images/a.tar"), "imported", (NAME,), remarks=(note,)))
    assert f"imported {NAME} in 0.00 s; {note}" in caplog.text
