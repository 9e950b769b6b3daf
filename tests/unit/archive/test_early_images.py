"""Which layers can be unpacked, as the members of an archive become known one by one."""

import random

import pytest

from airside.archive.early_images import EarlyImages
from airside.oci.digest import Digest
from airside.oci.platform import parse_platform
from support.images import TestBlob, TestImage, compact, random_image, sha256

NODE = parse_platform("linux/amd64")


def added(images: EarlyImages, blob: TestBlob) -> tuple[list, list]:
    is_document = blob.raw.startswith(b"{")
    found = images.add(blob.digest, blob.size_bytes, blob.raw if is_document else None)
    return found.images, [(diff_id, layer.digest) for diff_id, layer in found.layers]


def diff_ids(image: TestImage) -> tuple[Digest, ...]:
    return tuple(layer.diff_id for layer in image.layers)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_in_any_order_each_layer_is_found_once(compression: str) -> None:
    image = random_image(1, layers=3, compression=compression)
    for seed in range(20):
        blobs = random.Random(seed).sample(image.blobs, k=5)
        images, chains, layers = EarlyImages(NODE), [], []
        for blob in blobs:
            some_chains, some_layers = added(images, blob)
            chains += some_chains
            layers += some_layers
        assert chains == [diff_ids(image)]
        assert sorted(layers) == sorted((layer.diff_id, layer.digest) for layer in image.layers)


def test_plain_layers_need_a_config_and_no_manifest() -> None:
    image = random_image(1)
    images = EarlyImages(NODE)
    assert added(images, image.layers[0]) == ([], [])
    first = image.layers[0].digest
    assert added(images, image.config) == ([diff_ids(image)], [(first, first)])
    second = image.layers[1].digest
    assert added(images, image.layers[1]) == ([], [(second, second)])


def test_an_image_for_another_platform_is_left_out() -> None:
    image = random_image(1, platform="linux/arm64")
    images = EarlyImages(NODE)
    assert [added(images, blob) for blob in image.blobs] == [([], [])] * len(image.blobs)


def test_a_document_that_is_none_is_passed_over() -> None:
    images = EarlyImages(NODE)
    for raw in (b"{", b'{"rootfs": 1}', b'{"layers": [], "config": {}}', b"[]", b"\xff"):
        assert images.add(sha256(raw), len(raw), raw).images == []


def test_too_many_layers_are_left_to_the_publisher() -> None:
    images = EarlyImages(NODE)
    ids = [str(sha256(str(n).encode())) for n in range(3_000)]
    found = []
    for number in range(4):
        raw = compact({"n": number, "rootfs": {"type": "layers", "diff_ids": ids}})
        found.append(len(images.add(sha256(raw), len(raw), raw).images))
    assert found == [1, 1, 0, 0]


def test_the_base_of_the_longest_chain_weighs_most() -> None:
    base = random_image("base", layers=1)
    long = random_image("long", layers=3, base=base.layers)
    short = random_image("short", layers=1, base=base.layers)
    alone = random_image("alone", layers=1)
    images = EarlyImages(NODE)
    for image in (alone, short, long):
        added(images, image.config)
    layers = {layer for image in (long, short, alone) for layer in image.layers}
    weights = images.weights({layer.digest: 100 for layer in layers})
    first, *others = long.layers
    assert weights[first.digest] == (400, 2)
    assert [weights[layer.digest] for layer in others] == [(300, 1), (200, 1), (100, 1)]
    assert weights[short.layers[1].digest] == weights[alone.layers[0].digest] == (100, 1)


def test_compressed_layers_weigh_what_their_members_have() -> None:
    image = random_image(1, layers=2, compression="gzip")
    images = EarlyImages(NODE)
    added(images, image.config)
    added(images, image.manifest)
    lower, upper = image.layers
    assert images.weights({lower.digest: 5, upper.digest: 3}) == {
        lower.digest: (8, 1),
        upper.digest: (3, 1),
    }
