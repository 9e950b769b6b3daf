"""What bundlers give one name: the image serves it, what belongs to it is there by digest."""

import pytest

from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME
from airside.oci.reference import Repository
from support.images import random_image, random_index
from support.makers import attached_sbom, cosign_signature, layout_members, write_members
from support.nodes import import_now, node_at, visible

NAME = "quay.io/team/app:1"
REPOSITORY = Repository("quay.io", "team/app")
KINDS = {"image": "dev.hauler/image", "sig": "dev.hauler/sigs", "sbom": "dev.hauler/sboms"}


def entry(blob, kind=""):
    texts = {IMAGE_NAME: NAME, REF_NAME: "team/app:1"}
    return {**blob.descriptor, "annotations": {**texts, **({"kind": KINDS[kind]} if kind else {})}}


@pytest.fixture(params=["image", "index"])
def made(request):
    """An image or index, its signature and its SBOM."""
    seed = f"bundled {request.param}"
    image = random_image(seed) if request.param == "image" else random_index(seed)
    return image, cosign_signature(image.blobs[0]), attached_sbom(image.blobs[0])


@pytest.mark.parametrize("with_kinds", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_tag_serves_the_image_and_the_rest_is_there_by_digest(
    tmp_path, made, order, with_kinds
):
    image, signature, sbom = made
    kinds = list(KINDS) if with_kinds else ["", "", ""]
    roots = [image.blobs[0], signature[0], sbom[0]]
    entries = [entry(roots[n], kinds[n]) for n in order]
    blobs = [*image.blobs, *signature[1], *sbom[1]]
    write_members(tmp_path / "haul.tar", layout_members(entries, blobs))
    with node_at(tmp_path / "data") as node:
        outcome = import_now(node, tmp_path / "haul.tar")
        assert outcome.state == "imported"
        assert visible(node) == {NAME: image.digest}
        [source] = node.catalog.sources()
        assert any(str(signature[0].digest) in note for note in source.notes)
        for blob in (signature[0], sbom[0]):
            assert node.catalog.document_by_digest(REPOSITORY, blob.digest) is not None
        referrers = node.catalog.referrers(REPOSITORY, image.digest).items
        assert [each.digest for each in referrers] == [sbom[0].digest]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_signature_in_an_archive_of_its_own_does_not_take_the_tag(tmp_path, made, order):
    image, signature, _ = made
    archives = [tmp_path / "image.tar", tmp_path / "signature.tar"]
    write_members(archives[0], layout_members([entry(image.blobs[0])], image.blobs))
    write_members(archives[1], layout_members([entry(signature[0])], signature[1]))
    with node_at(tmp_path / "data") as node:
        for n in order:
            assert import_now(node, archives[n]).state == "imported"
        assert visible(node) == {NAME: image.digest}
        assert node.catalog.document_by_digest(REPOSITORY, signature[0].digest) is not None
