"""What an import leaves to others: names that it could not replace, referrers, shared blobs."""

from collections.abc import Sequence
from contextlib import closing
from itertools import permutations
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.archive.directory import stat_key
from airside.archive.formats.index_json import REF_NAME
from airside.archive.formats.oci_layout import blob_member
from airside.archive.stat_key import StatKey
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.tar_stream import write_archive
from airside.catalog.view import open_view
from airside.importer.importer import Job, Outcome
from airside.oci.model import OCI_MANIFEST
from airside.oci.reference import Repository, parse_reference
from support.formats.sources import Layout
from support.images import TestBlob, compact, oci_archive, random_image, random_index
from support.nodes import node_at


def drop(
    node: Node, path: Path, *, on_removal: str = "unpin", repository: Repository | None = None
) -> Outcome:
    """Import a file as the watcher would have it imported."""
    found = path.stat()
    files: Sequence[tuple[str, str, int]] = [(str(path), str(StatKey.of(found)), found.st_size)]
    ids = node.catalog.source_states.settle(files, node.clock())
    job = Job(ids[str(path)], path, repository=repository, on_removal=on_removal)
    return node.importer.run(job, stop=lambda: False, progress=lambda _done, _all: None)


def write_signature(path: Path, subject: TestBlob) -> TestBlob:
    """A layout of one unnamed artifact whose subject is an image or another artifact."""
    config = TestBlob(b"{}", "application/vnd.example.signature")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor,
        "layers": [],
        "subject": subject.descriptor,
    }
    manifest = TestBlob(compact(document), OCI_MANIFEST)
    index = {"schemaVersion": 2, "manifests": [manifest.descriptor]}
    members = [Member(blob_member(blob.digest), blob_of(blob.raw)) for blob in (config, manifest)]
    with path.open("wb") as out:
        write_archive(out, [*members, Member("index.json", blob_of(compact(index)))])
    return manifest


def test_an_unnamed_referrer_is_found_beside_its_subject(tmp_path):
    """Whichever came first, and after the collection of garbage."""
    for order in ((0, 1), (1, 0)):
        with node_at(tmp_path / f"data{order[0]}") as node:
            image = random_image("subject")
            archives = [tmp_path / "image.tar", tmp_path / "signature.tar"]
            oci_archive(archives[0], {"example.com/app:1": image})
            signature = write_signature(archives[1], image.manifest).digest
            for n in order:
                drop(node, archives[n])
            node.collect_garbage()
            found = node.catalog.referrers(Repository("example.com", "app"), image.digest).items
            assert [each.digest for each in found] == [signature]


def test_a_referrer_of_a_referrer_is_found_in_whatever_order_they_come(tmp_path):
    """Of a platform's manifest below an index, too."""
    index = random_index("subject")
    archives = [tmp_path / name for name in ("image.tar", "signature.tar", "stamp.tar")]
    oci_archive(archives[0], {"example.com/app:1": index, "example.com/same:1": index})
    signature = write_signature(archives[1], index.images[1].manifest)
    stamp = write_signature(archives[2], signature)
    for number, order in enumerate(permutations(archives)):
        with node_at(tmp_path / f"data{number}") as node:
            for archive in order:
                drop(node, archive)
            for name in ("app", "same"):
                repository = Repository("example.com", name)
                for subject, referrer in (
                    (index.images[1].manifest, signature),
                    (signature, stamp),
                ):
                    found = node.catalog.referrers(repository, subject.digest).items
                    assert [each.digest for each in found] == [referrer.digest]


def test_a_name_whose_new_image_is_not_whole_keeps_what_it_was(tmp_path):
    path = tmp_path / "a.tar"
    one, two = random_image("one"), random_image("two")
    with node_at(tmp_path / "data") as node:
        oci_archive(path, {"example.com/one:1": one, "example.com/two:1": two})
        drop(node, path, on_removal="delete")
        newer, broken = random_image("newer"), random_image("broken")
        oci_archive(
            path,
            {"example.com/one:1": newer, "example.com/two:1": broken},
            drop_blobs=[broken.layers[0].digest],
        )
        assert drop(node, path, on_removal="delete").state == "partial"
        shown = {row.reference: row.digest for row in node.catalog.images()}
        assert shown == {
            "example.com/one:1": str(newer.digest),
            "example.com/two:1": str(two.digest),
        }


def test_a_repository_without_names_goes_though_others_share_its_blobs(tmp_path):
    image = random_image("shared")
    paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
    with node_at(tmp_path / "data") as node:
        for path, name in zip(paths, ("example.com/a:1", "example.com/b:1"), strict=True):
            oci_archive(path, {name: image})
            drop(node, path)
        node.catalog.source_states.remove({str(paths[0]): "delete"}, 10.0)
        node.collect_garbage()
        assert node.catalog.repositories() == [Repository("example.com", "b")]


def test_a_name_that_is_only_a_tag_gets_the_repository_of_the_settings(tmp_path):
    path, image = tmp_path / "a.tar", random_image("tagged")
    tagged = {**image.manifest.descriptor, "annotations": {REF_NAME: "1.0"}}
    index = {"schemaVersion": 2, "manifests": [tagged]}
    members = [Member(blob_member(blob.digest), blob_of(blob.raw)) for blob in image.blobs]
    with path.open("wb") as out:
        write_archive(out, [*members, Member("index.json", blob_of(compact(index)))])
    with node_at(tmp_path / "data") as node:
        drop(node, path)
        assert [row.reference for row in node.catalog.images()] == [f"unnamed/a@{image.digest}"]
        drop(node, path, repository=Repository("example.com", "team/app"))
        assert [row.reference for row in node.catalog.images()] == ["example.com/team/app:1.0"]


def test_a_rebuilt_catalog_has_referrers_and_upper_case_hosts_where_they_were(tmp_path):
    image, archives = random_image("subject"), [tmp_path / "image.tar", tmp_path / "signature.tar"]
    oci_archive(archives[0], {"EXAMPLE/app:1": image})
    repository = Repository("EXAMPLE", "app")
    with node_at(tmp_path / "data") as node:
        signature = write_signature(archives[1], image.manifest).digest
        for archive in archives:
            drop(node, archive)
    (tmp_path / "data/catalog.db").unlink()
    with node_at(tmp_path / "data") as node:
        assert node.catalog.tags(repository) == ["1"]
        found = node.catalog.referrers(repository, image.digest).items
        assert [each.digest for each in found] == [signature]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_rebuilt_catalog_has_images_and_merged_tags_by_any_digest(tmp_path, algorithm):
    name = "example.com/app:1"
    with node_at(tmp_path / "data") as node:
        for platform in ("linux/amd64", "linux/arm64"):
            made = Layout(tmp_path / platform.replace("/", "-"), algorithm=algorithm)
            image = random_image(platform, layer_bytes=300, platform=platform)
            path = made.close(made.image(image), name=name)
            key = stat_key(path)
            [number] = node.catalog.source_states.settle(
                [(str(path), str(key), key.size_bytes)], 1.0
            ).values()
            node.importer.run(Job(number, path), stop=lambda: False, progress=lambda *_: None)
        before = [(row.digest, row.platforms) for row in node.catalog.images()]
        documents = sorted(str(digest) for digest in node.store.digests())
    assert before[0][1] == ("linux/amd64", "linux/arm64")
    for path in (tmp_path / "data").glob("catalog.db*"):
        path.unlink()
    with node_at(tmp_path / "data") as node:
        assert [(row.digest, row.platforms) for row in node.catalog.images()] == before
        assert sorted(str(digest) for digest in node.store.digests()) == documents
    with closing(open_view(tmp_path / "data/catalog.db")) as view:
        parts = view.lookup.parts(parse_reference(name))
        found = [view.lookup.document(part.digest) for part in parts]
        assert [str(each.digest) for each in found if each] == [part.digest for part in parts]
        assert len(parts) == 2
