"""Which format an archive has, and why there are no images in it."""

import pytest

from airside.archive.plan import DOCKER_ARCHIVE, OCI_LAYOUT
from airside.archive.planner import index_may_follow, resolve_link
from airside.archive.writer import docker_members, oci_members
from airside.errors import ArchiveFormatError, ManifestInvalidError
from support.images import compact, random_image
from support.members import Members

IMAGE = random_image("x", layer_bytes=300)
NULL = compact({"schemaVersion": 2, "manifests": None})


def layout(*, hybrid=False):
    return Members.of(oci_members([IMAGE.spec(("a.b/c:1",))], hybrid=hybrid))


def docker():
    image = random_image("x", layer_bytes=300, media="docker")
    return Members.of(docker_members([image.spec(("a.b/c:1",))]))


def test_formats_are_told_by_their_documents():
    assert layout().plan().format == OCI_LAYOUT
    assert docker().plan().format == DOCKER_ARCHIVE


def test_an_oci_index_is_preferred():
    assert layout(hybrid=True).plan().format == OCI_LAYOUT


def test_a_layout_may_lack_its_oci_layout_file():
    assert layout().without("oci-layout").plan().format == OCI_LAYOUT


@pytest.mark.parametrize("raw", [NULL, compact({"schemaVersion": 2, "manifests": []})])
def test_an_index_that_lists_nothing_falls_back_to_manifest_json(raw):
    plan = layout(hybrid=True).with_file("index.json", raw).plan()
    assert plan.format == DOCKER_ARCHIVE
    assert [str(r) for r in plan.images[0].references] == ["a.b/c:1"]
    with pytest.raises(ArchiveFormatError, match="lists none"):
        layout().with_file("index.json", raw).plan()


def test_a_damaged_index_does_not_fall_back():
    members = layout(hybrid=True)
    for raw in (b"{", members.files["index.json"].replace(b'"manifests"', b'"manifestz"')):
        with pytest.raises(ManifestInvalidError):
            members.with_file("index.json", raw).plan()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "neither index.json nor manifest.json"),
        (["repositories"], "Docker before 1.10"),
        (["oci-layout"], "without its index"),
        (["blobs/sha256/x"], "without its index"),
        (["a/manifest.json"], "pack the contents"),
        (["b/index.json", "a/b/manifest.json"], "'a/b'"),
        (["etc/passwd"], "neither"),
    ],
)
def test_an_archive_without_images_says_why(files, says):
    with pytest.raises(ArchiveFormatError, match=says):
        Members(dict.fromkeys(files, b"")).draft()


def test_a_dir_copy_is_refused_by_name():
    with pytest.raises(ArchiveFormatError, match="dir:"):
        Members({"manifest.json": b' {"schemaVersion":2}'}).draft()


def test_links_are_followed_and_a_loop_ends():
    links = {"a": "b", "b": "c", "x": "y", "y": "x"}
    assert resolve_link("a", links) == "c"
    assert resolve_link("c", links) == "c"
    assert resolve_link("x", links) in {"x", "y"}


def test_a_layer_behind_a_loop_of_links_is_missing():
    members = docker()
    layer = next(name for name in members.files if name.endswith("layer.tar"))
    members = Members(members.without(layer).files, {layer: "x", "x": layer})
    plan = members.plan()
    assert not plan.images
    assert plan.problems[0].blob == layer


@pytest.mark.parametrize(
    ("files", "may"),
    [
        ({"oci-layout", "manifest.json"}, True),
        ({"blobs/sha256/x", "manifest.json"}, True),
        ({"oci-layout", "index.json"}, False),
        ({"manifest.json", "x.json"}, False),
    ],
)
def test_a_cut_layout_may_lack_only_its_index(files, may):
    assert index_may_follow(frozenset(files)) is may
