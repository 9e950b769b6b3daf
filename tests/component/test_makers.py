"""Archives as their makers write them, imported into a node."""

import tarfile

import pytest

from airside.archive.formats.detect import DISORDERED
from airside.archive.formats.docker_legacy import NOTE
from airside.archive.writer.docker_archive import docker_members
from airside.diagnostics.reports import images_report
from airside.oci.model import parse_document
from support.images import image_of, random_image, random_layer, sha256
from support.makers import (
    COSIGN_SIGNATURE,
    HELM_CONFIG,
    SPDX,
    attached_sbom,
    built,
    cosign_signature,
    docker_25_members,
    ggcr_members,
    helm_chart,
    imgutil_members,
    jib_members,
    kept,
    layout_members,
    named,
    rules_docker_members,
    rules_oci_members,
    v1_archive,
    v1_config,
    v1_manifest,
    v1_members,
    v1_steps,
    windows_members,
    write_members,
    write_tar,
)
from support.nodes import import_now, node_at, visible, wrong_blobs

REPOSITORY = "registry.example.com/shop/app"
NAMES = (f"{REPOSITORY}:1", "app:2")
PACKED = ["none", "stored", "zstd"]


def imported(tmp_path, path, expected):
    """Imports an archive; checks what can be pulled, and every byte of it. Gives its record."""
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, path)
        assert (outcome.state, outcome.problems) == ("imported", ())
        assert visible(node) == expected
        for digest in expected.values():
            document = parse_document(node.catalog.document(digest), _type_of(node, digest), "it")
            for child in document.children:
                held = node.store.stat(child.digest)
                assert held == (child.size_bytes if child.is_distributable else None)
        assert not wrong_blobs(node)
        return node.catalog.sources()[0]


def _type_of(node, digest):
    return next(row.media_type for row in node.catalog.images() if row.digest == str(digest))


def inside(path):
    with tarfile.open(path) as tar:
        return tar.getmembers()


def listed(node):
    items = images_report(node.catalog)["items"]
    return {item["reference"]: item["artifact_type"] for item in items}


def several(compression="stored", media="docker"):
    """Three images on one base: one with two names, one without."""
    base = [random_layer("base", layer_bytes=900, compression=compression, media=media)]

    def make(seed):
        more = {"layer_bytes": 900, "compression": compression, "media": media}
        return random_image(seed, layers=1, base=base, **more)

    return {NAMES: make("a"), ("other:1",): make("b"), (): make("c")}


def one(compression="stored", media="docker"):
    return random_image("one", layer_bytes=900, compression=compression, media=media)


# docker-archives


@pytest.mark.parametrize("compression", PACKED)
def test_go_containerregistry_kaniko_and_ko(compression, tmp_path):
    images = several(compression)
    write_members(tmp_path / "a.tar", ggcr_members(images))
    source = imported(tmp_path, tmp_path / "a.tar", built(images))
    assert len(source.images) == 4
    assert any(name.startswith("unnamed/a@sha256:") for name in source.images)
    assert inside(tmp_path / "a.tar")[0].name.startswith("sha256:")


def test_rules_docker(tmp_path):
    images = {**several("none"), ("no.tag/at/all",): one("none")}
    write_members(tmp_path / "a.tar", rules_docker_members(images))
    imported(tmp_path, tmp_path / "a.tar", built(images))


def test_jib_with_one_layer_twice(tmp_path):
    layer = random_layer("x", layer_bytes=900, compression="stored", media="docker")
    image = image_of([layer, random_layer("y", compression="stored", media="docker"), layer])
    write_members(tmp_path / "a.tar", jib_members(NAMES, image))
    assert len({member.name for member in inside(tmp_path / "a.tar")}) == 4
    imported(tmp_path, tmp_path / "a.tar", built({NAMES: image}))


@pytest.mark.parametrize("compression", PACKED)
def test_rules_oci(compression, tmp_path):
    image = one(compression)
    write_members(tmp_path / "a.tar", rules_oci_members(NAMES, image))
    imported(tmp_path, tmp_path / "a.tar", built({NAMES: image}))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_buildpacks_name_layers_from_the_root(compression, tmp_path):
    image = one("none")
    members = imgutil_members(NAMES, image)
    write_members(tmp_path / "a.tar", members, compression=compression)
    imported(tmp_path, tmp_path / "a.tar", built({NAMES: image}))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("hard_links", [False, True])
@pytest.mark.parametrize("style", ["docker", "skopeo"])
def test_layers_may_be_links_in_every_form_of_tar(style, hard_links, form, tmp_path):
    images = several("none")
    first = images[NAMES].layers
    images["upside.down/x:1",] = image_of([*reversed(first)], media="docker", label="reversed")
    members = docker_members([i.spec(names) for names, i in images.items()], style=style)
    write_tar(tmp_path / "a.tar", members, form=form, prefix="./", hard_links=hard_links)
    kinds = {member.type for member in inside(tmp_path / "a.tar")}
    assert (tarfile.LNKTYPE if hard_links else tarfile.SYMTYPE) in kinds
    imported(tmp_path, tmp_path / "a.tar", built(images))


def test_docker_25_writes_both_forms_and_the_index_is_preferred(tmp_path):
    images = {names: one for names, one in several("none", "oci").items() if names}
    write_members(tmp_path / "a.tar", docker_25_members(images))
    imported(tmp_path, tmp_path / "a.tar", kept(images))


@pytest.mark.parametrize("layers", ["shuffled", "none"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_docker_25_0_0_forgot_the_order_of_layers_and_its_other_form_is_read(
    layers, compression, tmp_path
):
    images = {NAMES: random_image("a", layers=3, layer_bytes=900), ("other:1",): one("none", "oci")}
    members = docker_25_members(images, layers=layers)
    write_members(tmp_path / "a", members, compression=compression)
    source = imported(tmp_path, tmp_path / "a", built(images))
    assert (source.format, source.notes) == ("docker-archive", (DISORDERED,))


def test_a_foreign_layer_may_be_absent(tmp_path):
    image = random_image("w", layers=3, layer_bytes=900, media="docker", platform="windows/amd64")
    members, manifest = windows_members(NAMES, image)
    write_members(tmp_path / "a.tar", members)
    expected = {f"{REPOSITORY}:1": sha256(manifest), "docker.io/library/app:2": sha256(manifest)}
    imported(tmp_path, tmp_path / "a.tar", expected)


# Docker before 1.10

DOCKER_20_IDS = {
    "app": "257b79c4c94e95b224f17b0a63f9e755375d7f40fcbe67b497692c57c94081b8",
    "other": "6804c13e5d85e8ec2317a65261d53db9a553cfeda16fb375512b15fb933c226d",
}
"""Image IDs that Docker 20.10.24 gave these images when it loaded the same archive."""

BASE = v1_steps("base")
APP, OTHER = (*BASE, *v1_steps("app", layers=1)), (*BASE, *v1_steps("other"))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_images_of_docker_before_1_10(compression, tmp_path):
    images = {("app:1", "example.com/x/app:2"): APP, ("other:1",): OTHER}
    expected = v1_archive(tmp_path / "a.tar", images, compression=compression)
    assert len(set(expected.values())) == 2
    source = imported(tmp_path, tmp_path / "a.tar", expected)
    assert NOTE in source.notes


def test_image_ids_are_those_that_docker_gave_them():
    assert sha256(v1_config(APP)).hex == DOCKER_20_IDS["app"]
    assert sha256(v1_config(OTHER)).hex == DOCKER_20_IDS["other"]


def test_docker_before_1_10_saved_images_without_names_too(tmp_path):
    write_members(tmp_path / "a.tar", v1_members({("x:1",): APP}, repositories=False))
    source = imported(tmp_path, tmp_path / "a.tar", {})
    assert source.images == (f"unnamed/a@{sha256(v1_manifest(APP))}",)


# Layouts


def test_artifacts_are_kept_served_and_told_from_images(tmp_path):
    image = random_image("signed", layer_bytes=300)
    chart, chart_blobs = helm_chart("shop")
    signature, signature_blobs = cosign_signature(image.manifest)
    sbom, sbom_blobs = attached_sbom(image.manifest)
    tag = str(image.digest).replace(":", "-") + ".sig"
    entries = [
        named(image.manifest, f"{REPOSITORY}:1"),
        named(chart, f"{REPOSITORY}-chart:1.0.0"),
        named(signature, f"{REPOSITORY}:{tag}"),
        named(sbom),
    ]
    blobs = (*image.blobs, *chart_blobs, *signature_blobs, *sbom_blobs)
    write_members(tmp_path / "a.tar", layout_members(entries, blobs))
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, tmp_path / "a.tar")
        assert (outcome.state, outcome.problems) == ("imported", ())
        assert visible(node) == {
            f"{REPOSITORY}:1": image.digest,
            f"{REPOSITORY}-chart:1.0.0": chart.digest,
            f"{REPOSITORY}:{tag}": signature.digest,
        }
        assert all(node.store.stat(blob.digest) == blob.size_bytes for blob in blobs)
        assert listed(node) == {
            f"{REPOSITORY}:1": "",
            f"{REPOSITORY}-chart:1.0.0": HELM_CONFIG,
            f"{REPOSITORY}:{tag}": COSIGN_SIGNATURE,
            f"unnamed/a@{sbom.digest}": SPDX,
        }
