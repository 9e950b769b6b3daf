"""Detecting an archive's format, and the reasons why an archive has no images."""

import pytest

from airside.archive.formats.detect import index_may_follow, resolve_link
from airside.archive.formats.plan import DOCKER_ARCHIVE, OCI_LAYOUT
from airside.archive.formats.unsupported import is_text
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.oci_archive import oci_members
from airside.core.errors import ArchiveFormatError, ManifestInvalidError
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
        (["repositories"], "lacks what that member names"),
        (["oci-layout"], "without its index"),
        (["blobs/sha256/x"], "without its index"),
        (["a/manifest.json"], "in 'a': pack the contents"),
        (["b/index.json", "a/b/manifest.json"], "'a/b'"),
        (["etc/passwd"], "neither"),
        (["etc/passwd", "usr/bin/x", "var/x"], "docker export"),
        ([".dockerenv", "x"], "docker export"),
        (["etc", "usr", "var"], "neither"),
        (["shop/Chart.yaml", "shop/values.yaml"], "Helm chart"),
        (["disk-1.VMDK", "x.ovf"], "virtual machine"),
        (["images/a.tar.gz", "readme"], "other archives .images/a.tar.gz"),
    ],
)
def test_an_archive_without_images_says_why(files, says):
    with pytest.raises(ArchiveFormatError, match=says):
        Members(dict.fromkeys(files, b"")).draft()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"manifest.json": b' {"schemaVersion":2}'}, "as in a directory of the `dir:` transport"),
        ({"manifest.json": b"{}", "version": b"1.0"}, "as in a directory"),
        ({"manifest.json": b"{"}, "as in a directory"),
        (
            {"manifest.json": b"{}", "version": b"Directory Transport Version: 1.1\n"},
            "this is a directory of skopeo's or podman's `dir:` transport, .* oci-archive:",
        ),
        ({"manifest.json": b'{"schemaVersion":1}'}, "schema 1"),
    ],
)
def test_a_dir_copy_is_refused_by_name(files, says):
    with pytest.raises(ArchiveFormatError, match=says):
        Members(files).draft()


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"docker.io/a:1\ndocker.io/b:2\n", True),
        (b"# images\r\n\r\n", True),
        ("größer\n".encode(), True),
        (b"no end of a line", False),
        (b' {"schemaVersion":\n2}\n', False),
        (b"<html>\n", False),
        (b"a/layer.tar\0\0\n", False),
        (b"line\n\0", False),
        (b"\x1f\x8b\n", False),
        (b"", False),
    ],
)
def test_a_text_is_told_from_a_tar(head, found):
    assert is_text(head) is found


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
        ({f"{'ab' * 32}/json", "repositories"}, True),
    ],
)
def test_a_cut_archive_may_lack_what_says_how_to_read_it(files, may):
    assert index_may_follow(frozenset(files)) is may
