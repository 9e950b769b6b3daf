"""`copy = true`: an archive is taken in first, and its file is not needed after that."""

import pytest

from airside.archive.sources import ArchiveStore
from airside.core.errors import ArchiveChangedError, StoppedError, StorageFullError
from airside.core.settings import MIB
from airside.importer.importer import Job
from airside.store.local import LocalStore
from support.images import docker_archive, flip_bit, oci_archive, oci_layout, random_image, truncate
from support.nodes import visible, wrong_blobs

NAME = "docker.io/copied/app:1"


def leftovers(node):
    return list((node.settings.data / "ingest").iterdir())


def take(node, path, progress=lambda *_: None, stop=lambda: False):
    """Import as the queue does for a directory with `copy = true`."""
    ids = node.catalog.source_states.settle([(str(path), "1:2:3:4", 0)], 0.0)
    job = Job(ids[str(path)], path, copy=True)
    return node.importer.run(job, stop=stop, progress=progress)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd", "lz4", "bzip2", "xz"])
def test_the_file_may_go_once_it_was_copied(node, tmp_path, compression):
    image = random_image("copied", layer_bytes=2 * MIB)
    path = tmp_path / "a.tar"
    oci_archive(path, {NAME: image}, compression=compression)
    size = path.stat().st_size
    told = []

    def progress(done, total):
        assert size < total <= 2 * size
        told.append(done)
        if done > size:
            path.unlink(missing_ok=True)

    assert take(node, path, progress).state == "imported"
    assert not path.exists()
    assert told == sorted(told)
    assert visible(node) == {NAME: image.digest}
    assert wrong_blobs(node) == []
    assert leftovers(node) == []


def test_a_file_that_changes_while_it_is_copied_is_not_taken(node, tmp_path):
    path = tmp_path / "a.tar"
    docker_archive(path, {NAME: random_image("grows", layer_bytes=3 * MIB, media="docker")})

    def grow(done, _total):
        if done == MIB:
            with path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(ArchiveChangedError, match="changed while it was copied"):
        take(node, path, grow)
    assert visible(node) == {}
    assert leftovers(node) == []


def test_a_stop_ends_the_copy(node, tmp_path):
    path = tmp_path / "a.tar"
    oci_archive(path, {NAME: random_image("stopped", layer_bytes=3 * MIB)})
    copied = []
    with pytest.raises(StoppedError):
        take(node, path, lambda done, _: copied.append(done), stop=lambda: len(copied) >= 2)
    assert copied[-1] < path.stat().st_size
    assert leftovers(node) == []


def test_without_room_for_the_copy_nothing_is_copied(node, tmp_path, monkeypatch):
    path = tmp_path / "a.tar"
    oci_archive(path, {NAME: random_image("large")})
    asked = []

    def full(_store: ArchiveStore, needed_bytes):
        asked.append(needed_bytes)
        raise StorageFullError("at least 1 more byte is needed")

    with monkeypatch.context() as context:
        context.setattr(LocalStore, "check_space", full)
        with pytest.raises(StorageFullError):
            take(node, path)
    assert asked == [path.stat().st_size]
    assert leftovers(node) == []
    assert take(node, path).state == "imported"


def test_a_bad_archive_is_judged_as_without_a_copy(node, tmp_path):
    path = tmp_path / "a.tar"
    image = random_image("judged")
    oci_archive(path, {NAME: image})
    good = path.read_bytes()
    truncate(path, 5000)
    assert take(node, path).state == "incomplete"
    path.write_bytes(good)
    flip_bit(path, good.index(image.layers[0].raw) + 100)
    assert take(node, path).state == "rejected"
    path.write_bytes(b"")
    assert take(node, path).state == "incomplete"
    assert leftovers(node) == []


def test_a_layout_directory_is_read_in_place(node, tmp_path):
    image = random_image("in place")
    oci_layout(tmp_path / "app", {NAME: image})
    assert take(node, tmp_path / "app").state == "imported"
    assert visible(node) == {NAME: image.digest}
