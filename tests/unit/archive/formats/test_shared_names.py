"""Of several entries with one name what can be run keeps it; the others have their digests."""

import pytest

from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME
from airside.archive.formats.shared_names import settle_names
from airside.oci.model import OCI_CONFIG
from support.images import TestBlob, compact, random_image, random_index
from support.makers import (
    artifact,
    attached_sbom,
    cosign_signature,
    helm_chart,
    layout_members,
    named,
)
from support.members import Members

NAME = "quay.io/team/app:1"
IMAGE, INDEX = random_image("shared", layer_bytes=300), random_index("shared", layer_bytes=300)
IN_TOTO = "application/vnd.in-toto+json"


def blobs_of(made):
    return [made[0], *made[1]]


def attestation():
    """As BuildKit makes one: an image config, and a layer that is a statement."""
    config = TestBlob(compact({"architecture": "unknown", "os": "unknown"}), OCI_CONFIG)
    return artifact(config, [TestBlob(b'{"_type":"statement"}', IN_TOTO)])


BESIDE = {
    "cosign signature": cosign_signature(IMAGE.manifest),
    "SBOM": attached_sbom(IMAGE.manifest),
    "attestation": attestation(),
    "Helm chart": helm_chart("app"),
}


def plan_of(*entries, more=(), annotations=None):
    """The settled plan of a layout; `entries`: image or index, or (manifest, blobs)."""
    blobs, listed = list(more), []
    for number, entry in enumerate(entries):
        own = blobs_of(entry) if isinstance(entry, tuple) else list(entry.blobs)
        blobs += own
        texts = {IMAGE_NAME: NAME, REF_NAME: "1", **((annotations or {}).get(number, {}))}
        listed.append({**own[0].descriptor, "annotations": texts})
    return settle_names(Members.of(layout_members(listed, blobs)).plan())


def owners(plan):
    return {str(r): image.root for image in plan.images for r in image.references}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("runnable", [IMAGE, INDEX], ids=["image", "index"])
@pytest.mark.parametrize("kind", BESIDE)
def test_the_image_keeps_a_name_that_it_shares(kind, runnable, first):
    other = BESIDE[kind]
    plan = plan_of(*((other, runnable) if first else (runnable, other)))
    assert owners(plan) == {NAME: runnable.digest}
    [beside] = [image for image in plan.images if image.root != runnable.digest]
    assert [str(each) for each in beside.beside] == ["quay.io/team/app"]
    assert any(str(other[0].digest) in note and NAME in note for note in plan.notes)
    assert not plan.problems


def test_all_of_a_bundle_with_one_name():
    plan = plan_of(*BESIDE.values(), INDEX)
    assert owners(plan) == {NAME: INDEX.digest}
    assert len(plan.images) == len(BESIDE) + 1
    assert "1 more" in plan.notes[-1]


def test_a_chart_keeps_its_name_before_what_belongs_to_it():
    chart, signature = BESIDE["Helm chart"], BESIDE["cosign signature"]
    assert owners(plan_of(chart, signature)) == {NAME: chart[0].digest}


@pytest.mark.parametrize("kind", BESIDE)
def test_an_artifact_alone_keeps_its_name(kind):
    plan = plan_of(BESIDE[kind])
    assert owners(plan) == {NAME: BESIDE[kind][0].digest}


@pytest.mark.parametrize(
    "kind", ["dev.hauler/sigs", "dev.cosignproject.cosign/atts", "dev.hauler/referrers/0123abcd"]
)
def test_what_an_annotation_calls_a_supplement_has_no_name_even_alone(kind):
    plan = plan_of(IMAGE, annotations={0: {"kind": kind}})
    assert owners(plan) == {}
    assert [str(each) for each in plan.images[0].beside] == ["quay.io/team/app"]


def test_an_image_that_is_absent_or_damaged_leaves_its_name_to_no_signature():
    signature = BESIDE["cosign signature"]
    members = layout_members(
        [named(IMAGE.manifest, NAME), named(signature[0], NAME)],
        [*IMAGE.blobs, *blobs_of(signature)],
    )
    whole = Members.of(members)
    path = f"blobs/sha256/{IMAGE.digest.hex}"
    for broken in (whole.without(path), whole.with_file(path, b"{}")):
        assert owners(settle_names(broken.plan())) == {NAME: IMAGE.digest}


def test_an_index_keeps_its_name_before_a_manifest_that_it_lists():
    plan = plan_of(INDEX, INDEX.images[0])
    assert owners(plan) == {NAME: INDEX.digest}
    assert not plan.notes


def test_two_platforms_share_a_name():
    one, two = random_image("p"), random_image("q", platform="linux/arm64")
    plan = plan_of(one, two)
    assert [len(image.references) for image in plan.images] == [1, 1]


def test_names_that_are_only_tags_are_kept_in_the_same_way():
    texts = {IMAGE_NAME: "", REF_NAME: "1"}
    signature = BESIDE["cosign signature"]
    plan = plan_of(IMAGE, signature, annotations={0: texts, 1: texts})
    assert {image.root: image.tags for image in plan.images} == {
        IMAGE.digest: ("1",),
        signature[0].digest: (),
    }
    assert [image.beside_tag for image in plan.images] == [False, True]
