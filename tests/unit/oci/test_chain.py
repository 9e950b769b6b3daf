"""Chain IDs, and which manifests can be unpacked."""

import dataclasses
import hashlib

import pytest

from airside.core.errors import ManifestInvalidError, NotRunnableError
from airside.oci.chain import chain_ids, is_compressed, rootfs_of, unpack_obstacle
from airside.oci.model import (
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    parse_document,
)
from support.images import compact, image_of, random_image, random_index, random_layer, sha256

LAYERS = [random_layer(n, compression="gzip") for n in range(3)]
IDS = [str(layer.diff_id) for layer in LAYERS]


def manifest(layers, config=None, **more):
    config = config or image_of(LAYERS).config
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor,
        "layers": layers,
        **more,
    }
    return parse_document(compact(value), OCI_MANIFEST, "the manifest")


def config(**rootfs):
    return compact({"os": "linux", "architecture": "amd64", "rootfs": rootfs})


def refused(document, raw=None):
    with pytest.raises(NotRunnableError) as caught:
        rootfs_of(document, raw or image_of(LAYERS).config.raw)
    return caught.value


def of_type(media_type):
    descriptors = [layer.descriptor for layer in LAYERS]
    return manifest([descriptors[0], {**descriptors[1], "mediaType": media_type}, descriptors[2]])


def test_the_chain_id_of_the_first_layer_is_its_diff_id():
    first = LAYERS[0].diff_id
    assert chain_ids([first]) == (first,)
    assert chain_ids([]) == ()


def test_a_chain_id_is_the_digest_of_the_one_below_and_the_diff_id():
    ids = [layer.diff_id for layer in LAYERS]
    second = "sha256:" + hashlib.sha256(f"{ids[0]} {ids[1]}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {ids[2]}".encode()).hexdigest()
    assert [str(each) for each in chain_ids(ids)] == [str(ids[0]), second, third]


@pytest.mark.parametrize("media", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_an_image_is_its_layers_in_order(media, compression):
    image = random_image(1, layers=3, media=media, compression=compression)
    document = parse_document(image.manifest.raw, image.manifest.media_type, "the manifest")
    found = rootfs_of(document, image.config.raw)
    assert found.config == image.config.digest
    assert [layer.digest for layer in found.layers] == [layer.digest for layer in image.layers]
    assert list(found.diff_ids) == [layer.diff_id for layer in image.layers]
    steps = found.steps
    assert [step.chain for step in steps] == list(chain_ids(found.diff_ids))
    assert [step.parent for step in steps] == [None, *(step.chain for step in steps[:-1])]
    assert [step.layer for step in steps] == list(found.layers)
    assert [step.diff_id for step in steps] == list(found.diff_ids)
    assert {is_compressed(layer) for layer in found.layers} == {compression != "none"}


def test_layers_and_diff_ids_of_different_number_cannot_be_unpacked():
    error = refused(manifest([layer.descriptor for layer in LAYERS[:2]]))
    assert (error.context["expected"], error.context["found"]) == ("3", "2")
    assert "2 layers" in error.message
    assert "3 diff IDs" in error.message


@pytest.mark.parametrize(
    ("media_type", "said"),
    [
        (f"{OCI_LAYER}+gzip+encrypted", "encrypted"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign"),
        (f"{OCI_LAYER}+xz", "snapshotter"),
        ("application/vnd.in-toto+json", "vnd.in-toto"),
    ],
)
def test_a_layer_that_containerd_cannot_unpack_is_named(media_type, said):
    error = refused(of_type(media_type))
    assert said in error.message
    assert "layer 2" in error.message
    assert error.context["blob"] == str(LAYERS[1].digest)


WASM = "application/vnd.wasm.content.layer.v1+wasm"
ALIEN = [
    (WASM, "a shim"),
    ("application/vnd.erofs.layer.v1", "vnd.erofs"),
    ("application/vnd.erofs+zstd", "vnd.erofs"),
    ("application/vnd.oci.image.layer.v1.erofs", "erofs"),
    ("application/vnd.oci.image.layer.nydus.blob.v1", "nydus"),
    (f"{OCI_LAYER}+gzip+encrypted", "encrypted"),
    ("application/vnd.ollama.image.model", "ollama"),
    ("application/vnd.stacker.image.layer.squashfs+zstd+verity", "squashfs"),
]


@pytest.mark.parametrize(("media_type", "said"), ALIEN)
def test_why_nothing_is_unpacked_is_known_from_the_media_types(media_type, said):
    document = manifest([{**layer.descriptor, "mediaType": media_type} for layer in LAYERS])
    assert document.kind_of_artifact == ""
    assert said in unpack_obstacle(document)
    assert said in refused(document).message


def test_nothing_is_in_the_way_of_an_image():
    assert unpack_obstacle(manifest([layer.descriptor for layer in LAYERS])) == ""
    assert unpack_obstacle(manifest([], artifactType="application/x")) == ""


def test_layers_that_are_no_file_systems_are_passed_over_beside_others():
    extra = {**random_layer(9).descriptor, "mediaType": WASM}
    document = manifest([LAYERS[0].descriptor, extra, *(x.descriptor for x in LAYERS[1:])])
    found = rootfs_of(document, image_of(LAYERS).config.raw)
    assert [layer.digest for layer in found.layers] == [layer.digest for layer in LAYERS]
    assert unpack_obstacle(document) == ""


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (manifest([], artifactType="application/vnd.example.sbom"), "vnd.example.sbom"),
        (
            manifest(
                [LAYERS[0].descriptor],
                config=dataclasses.replace(image_of(LAYERS).config, media_type=OCI_EMPTY),
            ),
            "artifact",
        ),
        (
            manifest(
                [{**LAYERS[0].descriptor, "mediaType": "application/wasm"}],
                config=dataclasses.replace(
                    image_of(LAYERS).config, media_type="application/vnd.wasm.config.v0+json"
                ),
            ),
            "a config of the type application/vnd.wasm.config.v0+json",
        ),
        (
            manifest([{**LAYERS[0].descriptor, "mediaType": "application/vnd.cosign+json"}]),
            "artifact (application/vnd.cosign+json)",
        ),
    ],
)
def test_an_artifact_cannot_be_unpacked(document, said):
    assert said in refused(document).message


def test_an_index_is_no_manifest():
    index = random_index(1).index
    assert "index" in refused(parse_document(index.raw, OCI_INDEX, "the index")).message


def test_an_image_without_layers_cannot_be_unpacked():
    assert "no layers" in refused(manifest([]), config(type="layers", diff_ids=[])).message
    assert "no layers" in refused(manifest([]), b"{}").message
    assert "no layers" in refused(manifest([]), b'{"rootfs": [1]}').message


def test_a_rootfs_of_another_type_cannot_be_unpacked():
    error = refused(manifest([LAYERS[0].descriptor]), config(type="base", diff_ids=IDS[:1]))
    assert "'base'" in error.message


def test_diff_ids_that_containerd_cannot_check_cannot_be_unpacked():
    other = "sha512:" + hashlib.sha512(LAYERS[0].tar).hexdigest()
    error = refused(manifest([LAYERS[0].descriptor]), config(type="layers", diff_ids=[other]))
    assert "sha256" in error.message


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"rootfs": {"diff_ids": ["sha256:1"]}}'])
def test_a_config_that_is_none_is_told(raw):
    with pytest.raises(ManifestInvalidError):
        rootfs_of(manifest([LAYERS[0].descriptor]), raw)


def test_the_type_of_a_rootfs_may_be_absent():
    document = manifest([LAYERS[0].descriptor])
    found = rootfs_of(document, config(diff_ids=IDS[:1]))
    assert found.diff_ids == (LAYERS[0].diff_id,)
    assert document.content.config.media_type == OCI_CONFIG
    assert found.diff_ids[0] == sha256(LAYERS[0].tar)
