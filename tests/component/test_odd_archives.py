"""Archives that no maker in order writes, and that are met all the same."""

import json
import lzma
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.member import Member
from airside.catalog.model import SourceRow
from airside.importer.importer import Outcome
from airside.oci.model import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from support.images import TestBlob, TestImage, compact, random_image, random_index, random_layer
from support.makers import artifact, file, layout_members, named, write_members, write_tar
from support.nodes import import_now, node_at, visible, wrong_blobs

NAME = "registry.example/team/app:1"
Members = list[Member]


def taken(directory: Path, members: Members) -> tuple[Outcome, SourceRow, set[str]]:
    """What becomes of an archive: outcome, its row, and the names that can be pulled."""
    path = directory / "odd.tar"
    write_members(path, members)
    with node_at(directory / "data") as node:
        outcome = import_now(node, path)
        assert not wrong_blobs(node)
        return outcome, node.catalog.sources()[0], set(visible(node))


def saved(change: Callable[[list[dict[str, object]]], object], *images: TestImage) -> Members:
    """A docker-archive with another `manifest.json`, and nothing else that has the names."""
    specs = [image.spec((f"app:{n}",)) for n, image in enumerate(images, start=1)]
    found = []
    for member in docker_members(specs, style="docker"):
        if member.name == "manifest.json":
            assert member.blob is not None
            entries = json.loads(member.blob.open().read())
            change(entries)
            found.append(file(member.name, compact(entries)))
        elif member.name != "repositories":
            found.append(member)
    return found


def image(seed: str, **more: str) -> TestImage:
    return random_image(seed, layer_bytes=500, **more)


def plain(seed: str) -> TestImage:
    return random_image(seed, layer_bytes=500, media="docker")


def manifest_of(config: TestBlob, layers: Sequence[TestBlob]) -> TestBlob:
    listed = {"config": config.descriptor, "layers": [layer.descriptor for layer in layers]}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, **listed}
    return TestBlob(compact(document), OCI_MANIFEST)


def index_of(*entries: dict[str, object]) -> TestBlob:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return TestBlob(compact(document), OCI_INDEX)


# docker-archives


@pytest.mark.parametrize("layers", [None, []])
def test_an_image_without_layers(tmp_path: Path, layers: list[str] | None) -> None:
    rootfs = {"type": "layers", "diff_ids": layers}
    config = compact({"os": "linux", "architecture": "amd64", "rootfs": rootfs})
    entry = {"Config": "config", "RepoTags": ["app:1"], "Layers": layers}
    members = [file("config", config), file("manifest.json", compact([entry]))]
    outcome, _, names = taken(tmp_path, members)
    assert (outcome.state, names) == ("imported", {"docker.io/library/app:1"})


@pytest.mark.parametrize(
    "names", [["<none>:<none>"], [""], [], None, [f"sha256:{'ab' * 32}"]], ids=str
)
def test_an_image_without_a_name_however_that_is_written(
    tmp_path: Path, names: list[str] | None
) -> None:
    members = saved(lambda entries: entries[0].update(RepoTags=names), plain("a"))
    outcome, source, found = taken(tmp_path, members)
    assert (outcome.state, found) == ("imported", set())
    assert source.images[0].startswith("unnamed/odd@sha256:")


def test_of_two_images_with_one_name_the_last_counts_and_a_note_tells(tmp_path: Path) -> None:
    members = saved(lambda entries: entries[1].update(RepoTags=["app:1"]), plain("a"), plain("b"))
    outcome, source, names = taken(tmp_path, members)
    assert (outcome.state, names) == ("imported", {"docker.io/library/app:1"})
    assert source.notes == ("2 images have the name docker.io/library/app:1: the last one counts",)


def test_layers_may_be_links_to_links_and_a_loop_is_no_layer(tmp_path: Path) -> None:
    first = plain("a")

    def linked(entries: list[dict[str, object]]) -> None:
        entries[0]["Layers"] = ["far", "b"]

    members = saved(linked, first)
    layers = [m.name for m in members if m.name.endswith("layer.tar")]
    chain = [Member("far", target="near"), Member("near", target=layers[0])]
    outcome, _, names = taken(tmp_path, [*chain, *members, Member("b", target=layers[1])])
    assert (outcome.state, len(names)) == ("imported", 1)
    looped = [Member("far", target="near"), Member("near", target="far")]
    (tmp_path / "loop").mkdir()
    outcome, _, names = taken(tmp_path / "loop", [*looped, *members])
    assert (outcome.state, names) == ("rejected", set())
    assert "'far'" in outcome.reason


# Layouts


def test_two_platforms_with_one_name_at_the_top_are_one_tag_and_no_clash(tmp_path: Path) -> None:
    images = [image("a"), image("b", platform="linux/arm64")]
    blobs = [blob for each in images for blob in each.blobs]
    entries = [named(each.manifest, NAME) for each in images]
    outcome, source, names = taken(tmp_path, layout_members(entries, blobs))
    assert (outcome.state, names, source.notes) == ("imported", {NAME}, ())


def test_the_last_of_two_indexes_counts(tmp_path: Path) -> None:
    one = image("a")
    old, new = (layout_members([named(one.manifest, n)], one.blobs) for n in ("x.y/old:1", NAME))
    outcome, _, names = taken(tmp_path, [*old, *new])
    assert (outcome.state, names) == ("imported", {NAME})


@pytest.mark.parametrize("type_of", ["+xz", ""])
def test_a_layer_that_no_runtime_unpacks_is_told(tmp_path: Path, type_of: str) -> None:
    layer = random_layer("x", layer_bytes=500)
    packed = TestBlob(lzma.compress(layer.tar), OCI_LAYER + type_of)
    rootfs = {"type": "layers", "diff_ids": [str(layer.diff_id)]}
    config = TestBlob(
        compact({"os": "linux", "architecture": "amd64", "rootfs": rootfs}), OCI_CONFIG
    )
    manifest = manifest_of(config, [packed])
    members = layout_members([named(manifest, NAME)], [manifest, config, packed])
    outcome, source, names = taken(tmp_path, members)
    assert (outcome.state, names) == ("imported", {NAME})
    assert f"layer {packed.digest} is compressed with xz" in source.notes[0]


def test_a_manifest_that_lacks_layers_of_its_config_is_told(tmp_path: Path) -> None:
    one = image("a")
    manifest = manifest_of(one.config, one.layers[:1])
    members = layout_members([named(manifest, NAME)], [manifest, *one.blobs[1:]])
    outcome, source, names = taken(tmp_path, members)
    assert (outcome.state, names) == ("imported", {NAME})
    assert f"{manifest.digest} lists 1 layers, its config 2 diff IDs" in source.notes[0]


def test_an_index_within_may_lack_all_its_platforms(tmp_path: Path) -> None:
    inner, one = random_index("inner", layers=1, layer_bytes=500), image("a")
    outer = index_of(inner.index.descriptor, one.manifest.descriptor)
    blobs = [outer, inner.index, *one.blobs]
    outcome, _, names = taken(tmp_path, layout_members([named(outer, NAME)], blobs))
    assert (outcome.state, outcome.problems, names) == ("imported", (), {NAME})


def test_what_is_said_of_an_absent_image_is_no_image(tmp_path: Path) -> None:
    gone = image("gone")
    statement = TestBlob(compact({"_type": "statement"}), "application/vnd.in-toto+json")
    attestation, blobs = artifact(TestBlob(b"{}", OCI_CONFIG), [statement])
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(gone.digest),
    }
    platform = {"os": "unknown", "architecture": "unknown"}
    entry = {**attestation.descriptor, "annotations": about, "platform": platform}
    outer = index_of(gone.manifest.descriptor, entry)
    outcome, _, names = taken(tmp_path, layout_members([named(outer, NAME)], [outer, *blobs]))
    assert (outcome.state, names) == ("rejected", set())
    assert "none of the manifests that its index lists" in outcome.reason


@pytest.mark.parametrize("content", [b"", b'{"imageLayoutVersion":"9.0.0"}', b"nothing"])
def test_the_layouts_version_does_not_matter(tmp_path: Path, content: bytes) -> None:
    one = image("a")
    _, *members = layout_members([named(one.manifest, NAME)], one.blobs)
    outcome, _, names = taken(tmp_path, [file("oci-layout", content), *members])
    assert (outcome.state, names) == ("imported", {NAME})


def test_other_members_beside_the_image_do_not_matter(tmp_path: Path) -> None:
    """Resource forks of macOS, empty files, a directory that is called like an archive."""
    one = image("a")
    members = layout_members([named(one.manifest, NAME)], one.blobs)
    forks = [file(f"._{number}", b"\0\5\x16\x07") for number in range(3)]
    more = [file("empty", b""), Member("x.tar/"), file("x.tar/readme", b"text")]
    outcome, _, names = taken(tmp_path, [*forks, *members, *more])
    assert (outcome.state, names) == ("imported", {NAME})


def test_a_global_header_of_pax_does_not_matter(tmp_path: Path) -> None:
    one = image("a")
    with tarfile.open(tmp_path / "head", "w", pax_headers={"comment": "from git archive"}) as tar:
        head = tar.offset
    assert head
    write_tar(tmp_path / "rest.tar", layout_members([named(one.manifest, NAME)], one.blobs))
    whole = (tmp_path / "head").read_bytes()[:head] + (tmp_path / "rest.tar").read_bytes()
    (tmp_path / "odd.tar").write_bytes(whole)
    with node_at(tmp_path / "data") as node:
        assert import_now(node, tmp_path / "odd.tar").state == "imported"
        assert set(visible(node)) == {NAME}
