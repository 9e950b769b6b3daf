"""Images that only `manifest.json` lists, beside an index that lists others."""

import json

import pytest

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.detect import make_draft
from airside.core.errors import ManifestInvalidError
from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from support.images import TestBlob, compact, random_image, random_index
from support.makers import docker_25_members, file, layout_members, named
from support.members import Members

FIRST, SECOND = random_image("first", layer_bytes=300), random_image("second", layer_bytes=300)
THIRD = random_index("third", layer_bytes=300)
NAME = "docker.io/library/app:1"


def owners(plan):
    return {str(r): image.root for image in plan.images for r in image.references}


def saved_entry(image, *names):
    path = "blobs/sha256/{}".format
    layers = [path(layer.digest.hex) for layer in image.layers]
    return {"Config": path(image.config.digest.hex), "RepoTags": list(names), "Layers": layers}


def archive(saved, *more, entries=()):
    """FIRST in the index; `more`: blobs that no table lists."""
    members = layout_members([named(FIRST.manifest, NAME), *entries], [*FIRST.blobs, *more])
    return Members.of([*members, file("manifest.json", compact(saved))])


@pytest.mark.parametrize("names", [("app:1",), ()], ids=["beside a tag", "two digests"])
def test_what_docker_leaves_out_of_its_index_is_read(names):
    members = Members.of(docker_25_members({names: FIRST, (): SECOND} if names else {}))
    if not names:
        both = Members.of(docker_25_members({("x:1",): FIRST, ("y:1",): SECOND}))
        index = json.loads(both.files["index.json"])
        index["manifests"] = [
            {k: v for k, v in index["manifests"][0].items() if k != "annotations"}
        ]
        saved = json.loads(both.files["manifest.json"])
        for entry in saved:
            entry["RepoTags"] = None
        members = (
            both.with_file("index.json", compact(index))
            .with_file("manifest.json", compact(saved))
            .without("repositories")
        )
    plan = members.plan()
    assert [len(image.references) for image in plan.images] == [1 if names else 0, 0]
    assert all(digest in plan.documents for digest in (image.root for image in plan.images))
    assert not plan.problems
    assert "manifest.json has 1 more" in " ".join(plan.notes)


def test_the_manifest_among_the_blobs_keeps_its_digest():
    plan = archive([saved_entry(FIRST, "app:1"), saved_entry(SECOND)], *SECOND.blobs).plan()
    assert [image.root for image in plan.images] == [FIRST.digest, SECOND.digest]
    assert owners(plan) == {NAME: FIRST.digest}


def test_an_image_without_a_manifest_is_made_from_its_config_and_layers():
    saved = [saved_entry(FIRST, "app:1"), saved_entry(SECOND, "other:1")]
    plan = archive(saved, SECOND.config, *SECOND.layers).plan()
    found = owners(plan)
    assert set(found) == {NAME, "docker.io/library/other:1"}
    made = plan.documents[found["docker.io/library/other:1"]]
    assert [child.digest for child in made.children] == [b.digest for b in SECOND.blobs[1:]]
    assert not plan.problems


def test_an_index_among_the_blobs_is_read_whole():
    saved = [saved_entry(FIRST, "app:1"), saved_entry(THIRD.images[0], "multi:1")]
    plan = archive(saved, *THIRD.blobs).plan()
    assert owners(plan) == {NAME: FIRST.digest, "docker.io/library/multi:1": THIRD.digest}


def test_the_index_keeps_a_name_that_an_unlisted_image_has_too():
    saved = [saved_entry(FIRST, "app:1"), saved_entry(SECOND, "app:1")]
    plan = archive(saved, SECOND.config, *SECOND.layers).plan()
    assert owners(plan) == {NAME: FIRST.digest}
    assert len(plan.images) == 2


@pytest.mark.parametrize("lost", ["config", "layer"])
def test_an_unlisted_image_that_lacks_members_is_a_problem(lost):
    blobs = [SECOND.config, *SECOND.layers]
    del blobs[0 if lost == "config" else 1]
    plan = archive([saved_entry(FIRST, "app:1"), saved_entry(SECOND, "other:1")], *blobs).plan()
    assert owners(plan) == {NAME: FIRST.digest}
    assert [problem.image for problem in plan.problems] == ["other:1"]


def test_blobs_that_no_table_lists_are_no_images():
    loose = [TestBlob(b'{"a":1}', OCI_MANIFEST), TestBlob(b"[]", OCI_MANIFEST), *THIRD.blobs]
    plan = archive([saved_entry(FIRST, "app:1"), saved_entry(SECOND)], *loose, *SECOND.blobs).plan()
    assert [image.root for image in plan.images] == [FIRST.digest, SECOND.digest]


def test_names_are_not_borrowed_where_the_index_has_problems():
    """An entry or a document of it is damaged: its name must not go to another image."""
    index = [named(FIRST.manifest, NAME), {**named(SECOND.manifest, "other:1"), "digest": "bad"}]
    members = layout_members(index, [*FIRST.blobs, *SECOND.blobs[1:]])
    saved = [saved_entry(FIRST, "app:1"), saved_entry(SECOND, "other:1")]
    plan = Members.of([*members, file("manifest.json", compact(saved))]).plan()
    assert owners(plan) == {NAME: FIRST.digest}
    assert "docker.io/library/other:1" in {problem.image for problem in plan.problems}


def test_names_are_not_borrowed_where_annotations_may_have_lost_them():
    index = [{**FIRST.manifest.descriptor, "annotations": {"io.containerdci.imagname": NAME}}]
    members = layout_members(index, FIRST.blobs)
    saved = file("manifest.json", compact([saved_entry(FIRST, "app:1")]))
    plan = Members.of([*members, saved]).plan()
    assert owners(plan) == {}
    assert [problem.image for problem in plan.problems] == [NAME]


def test_a_name_of_which_nothing_tells_the_image_is_a_problem():
    """Two documents with one config and no names, as where a key of all entries is damaged."""
    top = TestBlob(
        compact(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [FIRST.manifest.descriptor]}
        ),
        OCI_INDEX,
    )
    members = layout_members([top.descriptor, FIRST.manifest.descriptor], [top, *FIRST.blobs])
    saved = file("manifest.json", compact([saved_entry(FIRST, "app:1")]))
    plan = Members.of([*members, saved]).plan()
    assert owners(plan) == {}
    assert [problem.image for problem in plan.problems] == [NAME]


def test_a_blob_that_cannot_be_read_is_no_manifest():
    """`airside inspect` holds no blob that is no document."""
    members = archive([saved_entry(FIRST, "app:1"), saved_entry(SECOND)], *SECOND.blobs)
    members = members.with_file(f"blobs/sha256/{'0' * 64}", b"")

    def read(name):
        if name.endswith("0" * 64):
            raise ManifestInvalidError("it is not a JSON document")
        return members.files[name]

    draft = make_draft(
        files=frozenset(members.files),
        links={},
        read=read,
        held=lambda _digest: None,
        allowance=Allowance(),
    )
    assert {root.digest for root in draft.roots} == {FIRST.digest, SECOND.digest}


def test_a_name_that_only_repositories_has_is_a_problem():
    members = Members.of(docker_25_members({("app:1", "b/app:2"): FIRST}))
    assert not members.plan().problems
    other = members.with_file("repositories", compact({"app": {"1": "x"}, "b/other": {"2": "x"}}))
    plan = other.plan()
    assert set(owners(plan)) == {NAME, "docker.io/b/app:2"}
    assert [problem.image for problem in plan.problems] == ["docker.io/b/other:2"]
    assert members.with_file("repositories", b"{").plan().problems
