"""From an archive's file into store and catalog."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airside.agent.import_queue import RunningJob
from airside.archive.formats.oci_layout import blob_member
from airside.archive.stat_key import StatKey
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.tar_stream import write_archive
from airside.core.errors import (
    ArchiveChangedError,
    ArchiveError,
    StoppedError,
    StorageFullError,
    StoreError,
)
from airside.core.failpoints import arm
from airside.importer.claimed_names import unnamed_repository
from airside.importer.importer import Importer, Job
from airside.oci.digest import digest_of, parse_digest
from airside.oci.model import OCI_INDEX
from airside.oci.reference import Repository, parse_reference
from airside.store.local import LocalStore
from support.images import (
    compact,
    compress,
    docker_archive,
    expected_blobs,
    oci_archive,
    random_image,
    random_index,
    truncate,
)
from support.nodes import import_now, node_at, visible, wrong_blobs
from support.queues import queue_of

APP, OTHER = "docker.io/library/app:1", "docker.io/library/other:1"


@pytest.fixture
def ingests(monkeypatch):
    """Counts the blobs that are written to the disk."""
    written = []
    ingest = LocalStore.ingest

    def counted(self, algorithm="sha256"):
        made = ingest(self, algorithm)
        written.append(made)
        return made

    monkeypatch.setattr(LocalStore, "ingest", counted)
    return written


def row_of(node, path):
    [row] = node.catalog.sources(path=str(path))
    return row


def docker_image(seed, **more):
    return random_image(seed, media="docker", **more)


# What is written


def test_held_blobs_are_not_written_again(node, tmp_path, ingests):
    one, two = random_image("one"), random_image("two")
    oci_archive(tmp_path / "a.tar", {"app:1": one})
    first = import_now(node, tmp_path / "a.tar")
    assert (first.state, first.new_blobs) == ("imported", 4)
    assert len(ingests) == 4
    ingests.clear()
    for number, compression in enumerate(["none", "gzip", "zstd"]):
        path = tmp_path / f"again-{number}.tar"
        oci_archive(path, {("app:1", f"app:again-{number}"): one}, compression=compression)
        again = import_now(node, path)
        assert (again.state, again.new_blobs) == ("imported", 0)
    # what has no digest in its name is written to be read: oci-layout and index.json
    assert sum(ingest.size_bytes > 1000 for ingest in ingests) == 0
    ingests.clear()
    oci_archive(tmp_path / "b.tar", {"app:1": one, "other:1": two})
    assert import_now(node, tmp_path / "b.tar").new_blobs == 4
    assert len(ingests) == 4
    assert not wrong_blobs(node)


def test_the_same_docker_archive_again_writes_no_blob(node, tmp_path, ingests):
    image = docker_image("one")
    docker_archive(tmp_path / "a.tar", {"app:1": image})
    import_now(node, tmp_path / "a.tar")
    ingests.clear()
    docker_archive(tmp_path / "a.tar", {"app:1": image, "other:1": docker_image("two")})
    assert import_now(node, tmp_path / "a.tar").state == "imported"
    held = {blob.digest for blob in image.blobs}
    assert not held & {ingest.digest for ingest in ingests}


def test_everything_of_an_image_is_held_and_named(node, tmp_path):
    index, image = random_index("i"), random_image("x")
    expected = oci_archive(tmp_path / "a.tar", {"app:1": index, "other:1": image})
    outcome = import_now(node, tmp_path / "a.tar")
    assert sorted(outcome.images) == sorted(expected)
    assert visible(node) == expected
    wanted = expected_blobs(index) | expected_blobs(image)
    assert {d: node.store.stat(d) for d in node.store.digests()} == wanted
    assert node.catalog.blobs() == wanted
    row = row_of(node, tmp_path / "a.tar")
    assert (row.state, row.format, row.compression) == ("imported", "oci-layout", "none")
    assert row.stat_key == str(StatKey.of((tmp_path / "a.tar").stat()))
    listed = json.loads((node.settings.data / "oci/index.json").read_bytes())["manifests"]
    assert {m["annotations"]["io.containerd.image.name"]: m["digest"] for m in listed} == {
        name: str(digest) for name, digest in expected.items()
    }


# What is judged


@pytest.mark.parametrize("strict", [False, True])
def test_a_missing_blob_costs_its_image_or_all_of_them(node, tmp_path, strict):
    one, two = random_image("one"), random_image("two")
    oci_archive(
        tmp_path / "a.tar", {"app:1": one, "other:1": two}, drop_blobs=[one.layers[0].digest]
    )
    ids = node.catalog.source_states.settle([(str(tmp_path / "a.tar"), "", 1)], 1.0)
    job = Job(ids[str(tmp_path / "a.tar")], tmp_path / "a.tar", strict=strict)
    outcome = node.importer.run(job, stop=lambda: False, progress=lambda *_: None)
    assert outcome.state == ("rejected" if strict else "partial")
    assert visible(node) == ({} if strict else {OTHER: two.digest})
    assert [problem.blob for problem in outcome.problems] == [str(one.layers[0].digest)]
    assert not wrong_blobs(node)
    held = set(node.store.digests())
    assert held == (set() if strict else set(expected_blobs(two)))


def test_a_blob_that_is_held_already_may_be_absent(node, tmp_path):
    image = random_image("x")
    oci_archive(tmp_path / "a.tar", {"app:1": image})
    oci_archive(tmp_path / "b.tar", {"other:1": image}, drop_blobs=[b.digest for b in image.layers])
    assert import_now(node, tmp_path / "b.tar").state == "rejected"
    import_now(node, tmp_path / "a.tar")
    assert import_now(node, tmp_path / "b.tar").state == "imported"
    assert visible(node) == {APP: image.digest, OTHER: image.digest}


def test_a_rejected_replacement_leaves_what_was_there(node, tmp_path):
    image = random_image("x")
    oci_archive(tmp_path / "a.tar", {"app:1": image})
    import_now(node, tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(b"\x7fELF" + bytes(2000))
    outcome = import_now(node, tmp_path / "a.tar")
    assert outcome.state == "rejected"
    assert "ELF" in outcome.reason
    assert not outcome.retry
    assert visible(node) == {APP: image.digest}
    assert row_of(node, tmp_path / "a.tar").problems


def test_an_archive_that_ends_early_is_incomplete_and_read_again(node, tmp_path):
    oci_archive(tmp_path / "a.tar", {"app:1": random_image("x")})
    data = (tmp_path / "a.tar").read_bytes()
    truncate(tmp_path / "a.tar", len(data) // 2)
    outcome = import_now(node, tmp_path / "a.tar")
    assert (outcome.state, outcome.retry) == ("incomplete", True)
    assert row_of(node, tmp_path / "a.tar").state == "incomplete"
    assert not visible(node)
    (tmp_path / "a.tar").write_bytes(data)
    assert import_now(node, tmp_path / "a.tar").state == "imported"


# Names


def test_one_bad_name_fails_that_name_only(node, tmp_path):
    image = docker_image("x")
    docker_archive(tmp_path / "a.tar", {("app:1", "other:1"): image})
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data.replace(b'["app:1",', b'["App:1",'))
    outcome = import_now(node, tmp_path / "a.tar")
    assert outcome.state == "partial"
    assert list(visible(node)) == [OTHER]
    assert "App:1" in {problem.image for problem in outcome.problems}


def test_images_without_a_name_are_reachable_by_digest(node, tmp_path):
    image, index = random_image("x"), random_index("i")
    oci_archive(tmp_path / "My Images_2.tar.gz", {(): image}, compression="gzip")
    outcome = import_now(node, tmp_path / "My Images_2.tar.gz")
    assert outcome.state == "imported"
    repository = Repository("", "unnamed/my-images-2")
    assert outcome.images == (f"{repository}@{image.digest}",)
    assert node.catalog.document_by_digest(repository, image.digest).raw == image.manifest.raw
    assert all(node.catalog.holds_blob(repository, blob.digest) for blob in image.blobs)
    assert not visible(node)
    oci_archive(tmp_path / "b.tar", {(): index, "app:1": image})
    assert import_now(node, tmp_path / "b.tar").state == "imported"
    assert visible(node) == {APP: image.digest}


@pytest.mark.parametrize(
    ("name", "path"),
    [("a.tar.zst", "a"), ("RKE2_Images.v1.tgz", "rke2-images-v1"), ("...tar", "archive"),
     ("é.tar", "archive"), ("a--b.tar", "a-b")],
)  # fmt: skip
def test_the_repository_of_unnamed_images_is_a_valid_path(name, path, tmp_path):
    found = unnamed_repository(tmp_path / name)
    assert found == Repository("", f"unnamed/{path}")
    assert parse_reference(f"x.y/{found.path}:1")


def test_a_layout_without_its_oci_layout_file_is_read(node, tmp_path):
    image = random_image("x")
    oci_archive(tmp_path / "a.tar", {"app:1": image}, no_layout_file=True)
    assert import_now(node, tmp_path / "a.tar").state == "imported"
    assert visible(node) == {APP: image.digest}


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_sha512_blobs_are_kept_under_their_own_name(node, tmp_path, compression):
    image = random_image("x")
    raw, names = image.manifest.raw, {}
    for blob in image.blobs[1:]:
        names[str(blob.digest)] = digest_of(blob.raw, "sha512")
        raw = raw.replace(str(blob.digest).encode(), str(names[str(blob.digest)]).encode())
    root = digest_of(raw, "sha512")
    entry = {"mediaType": image.manifest.media_type, "digest": str(root), "size": len(raw)}
    entry["annotations"] = {"io.containerd.image.name": "app:1"}
    index = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    # the config's diff IDs are sha256, the layers' names are not: told apart, never compared
    members = [Member(blob_member(root), blob_of(raw)), Member("index.json", blob_of(index))]
    members += [
        Member(blob_member(names[str(blob.digest)]), blob_of(blob.raw)) for blob in image.blobs[1:]
    ]
    with (tmp_path / "a.tar").open("wb") as out:
        write_archive(out, members)
    if compression == "gzip":
        (tmp_path / "a.tar").write_bytes(compress((tmp_path / "a.tar").read_bytes(), "gzip"))
    outcome = import_now(node, tmp_path / "a.tar")
    assert outcome.state == "imported", outcome
    assert visible(node) == {APP: root}
    assert set(node.store.digests()) == {root, *names.values()}
    assert not wrong_blobs(node)


# What happens meanwhile


def test_an_archive_that_changes_while_it_is_read_is_not_kept(node, tmp_path):
    path = tmp_path / "a.tar"
    oci_archive(path, {"app:1": random_image("x")})

    def touched(_done, _all):
        os.utime(path, ns=(1, 1))

    with pytest.raises(ArchiveChangedError):
        node.imports.import_file(path, stop=lambda: False, progress=touched)
    assert not visible(node)
    assert not list(node.store.digests())


def test_damage_of_a_changing_archive_rejects_nothing(node, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"\x1f\x8b" + bytes(5000))

    def grown(_done, _all):
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(ArchiveChangedError):
        node.imports.import_file(path, stop=lambda: False, progress=grown)
    assert row_of(node, path).state == "failed"


def test_a_stopped_import_leaves_nothing(node, tmp_path):
    oci_archive(tmp_path / "a.tar", {"app:1": random_image("x")})
    with pytest.raises(StoppedError):
        node.imports.import_file(tmp_path / "a.tar", stop=lambda: True, progress=lambda *_: None)
    assert not list(node.store.digests())
    assert not list((node.settings.data / "ingest").iterdir())


def test_a_full_disk_is_a_failure_that_is_tried_again(tmp_path):
    oci_archive(tmp_path / "a.tar", {"app:1": random_image("x")})
    with node_at(tmp_path / "data", min_free_bytes=1 << 60) as node:
        with pytest.raises(StorageFullError, match="min_free_bytes"):
            import_now(node, tmp_path / "a.tar")
        row = row_of(node, tmp_path / "a.tar")
        assert row.state == "failed"
        assert "bytes free" in row.reason
        assert not list(node.store.digests())
    with node_at(tmp_path / "data") as node:
        assert import_now(node, tmp_path / "a.tar").state == "imported"


class Watcher:
    """Remembers what is to be looked at again."""

    def __init__(self):
        self.again = []

    def look_again(self, path, *, after_seconds):
        self.again.append((path, after_seconds))


def test_the_queue_looks_again_at_what_failed_for_want_of_space(tmp_path):
    path, watcher = tmp_path / "a.tar", Watcher()
    oci_archive(path, {"app:1": random_image("x")})

    async def run_job(node):
        with ThreadPoolExecutor(1) as pool:
            queue = queue_of(node, pool, watcher.look_again)
            key = str(StatKey.of(path.stat()))
            ids = node.catalog.source_states.settle([(str(path), key, path.stat().st_size)], 1.0)
            await queue._run(RunningJob(Job(ids[str(path)], path)))

    with node_at(tmp_path / "data", min_free_bytes=1 << 60) as node:
        asyncio.run(run_job(node))
        assert row_of(node, path).state == "failed"
        assert [found for found, _ in watcher.again] == [path]
    with node_at(tmp_path / "data") as node:
        asyncio.run(run_job(node))
        assert row_of(node, path).state == "imported"
    assert len(watcher.again) == 1


def test_the_queue_does_not_look_again_at_what_a_newer_version_replaces(tmp_path):
    path, watcher = tmp_path / "a.tar", Watcher()
    oci_archive(path, {"app:1": random_image("x")})
    path.write_bytes(path.read_bytes()[:2000])

    async def run_job(node, *, replaced):
        with ThreadPoolExecutor(1) as pool:
            queue = queue_of(node, pool, watcher.look_again)
            key = str(StatKey.of(path.stat()))
            ids = node.catalog.source_states.settle([(str(path), key, path.stat().st_size)], 1.0)
            job = Job(ids[str(path)], path)
            if replaced:
                await queue._submit(job)
            await queue._run(RunningJob(job))

    with node_at(tmp_path / "data") as node:
        asyncio.run(run_job(node, replaced=True))
        assert watcher.again == []
        asyncio.run(run_job(node, replaced=False))
        assert [found for found, _ in watcher.again] == [path]


def test_an_import_begins_again_where_a_collection_took_what_it_counted_on(
    node, tmp_path, monkeypatch
):
    shared, old = random_image("shared"), random_image("old")
    oci_archive(tmp_path / "a.tar", {"app:1": old})
    import_now(node, tmp_path / "a.tar")
    oci_archive(tmp_path / "b.tar", {"other:1": old, "more:1": shared})
    check, taken = Importer._check_unchanged, []

    def collected(self, reading):
        check(self, reading)
        if not taken:  # it was there when the archive was read
            taken.append(node.store.delete(old.layers[0].digest))

    monkeypatch.setattr(Importer, "_check_unchanged", collected)
    assert import_now(node, tmp_path / "b.tar").state == "imported"
    assert taken
    assert wrong_blobs(node) == []
    assert set(expected_blobs(old)) <= set(node.store.digests())


def test_a_write_that_fails_leaves_what_was_there(node, tmp_path):
    old, new = random_image("old"), random_image("new")
    oci_archive(tmp_path / "a.tar", {"app:1": old})
    import_now(node, tmp_path / "a.tar")
    oci_archive(tmp_path / "a.tar", {"app:1": new})
    arm("ingest.after_write=oserror:EIO@3")
    try:
        with pytest.raises(StoreError):
            import_now(node, tmp_path / "a.tar")
    finally:
        arm(None)
    assert visible(node) == {APP: old.digest}
    assert set(node.store.digests()) == set(expected_blobs(old))
    assert not list((node.settings.data / "ingest").iterdir())
    assert import_now(node, tmp_path / "a.tar").state == "imported"
    assert visible(node) == {APP: new.digest}


# The sequence decides


def test_the_newest_drop_wins_and_a_removal_does_not_bring_back_the_old(node, tmp_path):
    old, new = random_image("old"), random_image("new")
    oci_archive(tmp_path / "a.tar", {"app:1": new})
    oci_archive(tmp_path / "b.tar", {"app:1": old})
    import_now(node, tmp_path / "a.tar")
    import_now(node, tmp_path / "b.tar")
    assert visible(node) == {APP: old.digest}
    oci_archive(tmp_path / "a.tar", {"app:1": new})
    import_now(node, tmp_path / "a.tar")
    assert visible(node) == {APP: new.digest}
    [image] = node.catalog.images()
    assert parse_digest(image.digest) == new.digest
    assert image.archives == (str(tmp_path / "a.tar"),)


def test_a_file_whose_name_is_not_utf8_is_refused(node, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tar"))
    docker_archive(path, {"a.b/c:1": random_image("x", layers=1, layer_bytes=300, media="docker")})
    with pytest.raises(ArchiveError, match="not UTF-8: rename"):
        import_now(node, path)


def test_a_platform_that_none_is_called_does_not_keep_others_from_merging(node, tmp_path):
    for number, fields in enumerate([{}, {"os": "a/b"}, {"architecture": "arm64"}]):
        image = random_image(number, layers=1, layer_bytes=300, media="docker", config=fields)
        path = tmp_path / f"{number}.tar"
        docker_archive(path, {"a.b/c:1": image})
        assert import_now(node, path).state == "imported"
    assert set(visible(node)) == {"a.b/c:1"}
    assert not wrong_blobs(node)
