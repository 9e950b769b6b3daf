"""Complete and true: what of a plan is taken."""

import json
from dataclasses import replace

import pytest

from airside.archive.completeness import first_absent, judge
from airside.archive.formats.index_json import IMAGE_NAME
from airside.archive.formats.oci_layout import blob_member
from airside.archive.writer.oci_archive import oci_members
from airside.core.problem import Problem
from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from support.images import TestBlob, compact, random_image, random_index
from support.members import Members

NAME, OTHER = "a.b/one:1", "a.b/two:1"
ONE, TWO = (random_image(n, layer_bytes=300) for n in "ab")
INDEX = random_index("i", ("linux/amd64", "linux/arm64", "linux/arm/v7"), layer_bytes=300)


def layout(*roots):
    return Members.of(oci_members([root.spec(names) for root, names in roots]))


def without(members, *blobs):
    return members.without(*(blob_member(blob.digest) for blob in blobs))


def names_of(judgement):
    return {str(r) for image in judgement.images for r in image.references}


def digests(judgement):
    return [document.digest for document in judgement.documents]


def test_all_is_taken_where_all_is_there():
    judgement = layout((ONE, (NAME,)), (INDEX, (OTHER,))).judged(strict=True)
    assert names_of(judgement) == {NAME, OTHER}
    assert not judgement.problems
    assert not judgement.missing
    wanted = {ONE.digest, INDEX.digest, *(image.digest for image in INDEX.images)}
    assert set(digests(judgement)) == wanted


def test_children_come_before_their_parents():
    found = digests(layout((INDEX, (NAME,))).judged())
    assert found[-1] == INDEX.digest
    assert len(found) == len(set(found)) == 4


@pytest.mark.parametrize("blob", ONE.blobs[1:], ids=lambda blob: blob.media_type)
def test_a_manifest_without_one_blob_is_not_taken_and_the_others_are(blob):
    judgement = without(layout((ONE, (NAME,)), (TWO, (OTHER,))), blob).judged()
    assert names_of(judgement) == {OTHER}
    assert judgement.missing
    [problem] = judgement.problems
    assert (problem.image, problem.blob) == (NAME, str(blob.digest))
    assert "1 missing in all" in problem.reason


def test_strict_takes_all_or_nothing():
    members = without(layout((ONE, (NAME,)), (TWO, (OTHER,))), ONE.layers[0])
    judgement = members.judged(strict=True)
    assert not judgement.images
    assert not judgement.documents
    assert judgement.problems


def test_three_missing_blobs_are_named_and_all_are_counted():
    image = random_image("many", layers=5, layer_bytes=300)
    judgement = without(layout((image, (NAME,))), *image.layers).judged()
    assert [p.blob for p in judgement.problems] == [str(b.digest) for b in image.layers[:3]]
    assert all("5 missing in all" in problem.reason for problem in judgement.problems)


def test_a_blob_of_another_size_is_wrong_and_no_more_bytes_would_help():
    plan = layout((ONE, (NAME,))).plan()
    sizes = {blob.digest: blob.size_bytes for blob in ONE.blobs}
    judgement = judge(plan, {**sizes, ONE.layers[1].digest: 7}.get)
    assert not judgement.images
    assert not judgement.missing
    assert [problem.blob for problem in judgement.problems] == [str(ONE.layers[1].digest)]


def test_foreign_layers_may_be_absent_but_not_of_another_size():
    layer = TestBlob(b"x", "application/vnd.oci.image.layer.nondistributable.v1.tar")
    value = {
        "schemaVersion": 2,
        "config": ONE.config.descriptor,
        "layers": [ONE.layers[0].descriptor, layer.descriptor],
    }
    manifest = TestBlob(compact(value), OCI_MANIFEST)
    members = of_root(manifest, ONE.config, ONE.layers[0])
    judgement = members.judged()
    assert len(judgement.images) == 1
    assert not judgement.problems
    sizes = {b.digest: b.size_bytes for b in (ONE.config, ONE.layers[0])}
    assert not judge(members.plan(), {**sizes, layer.digest: 2}.get).images


def of_root(root, *blobs):
    index = {"schemaVersion": 2, "manifests": [root.descriptor]}
    files = {blob_member(blob.digest): blob.raw for blob in (root, *blobs)}
    return Members({**files, "index.json": compact(index)})


# Indexes


def test_an_index_is_taken_with_the_platforms_that_are_there():
    absent = [blob for image in INDEX.images[1:] for blob in image.blobs]
    judgement = without(layout((INDEX, (NAME,))), *absent).judged(strict=True)
    assert names_of(judgement) == {NAME}
    assert digests(judgement) == [INDEX.images[0].digest, INDEX.digest]
    assert not judgement.problems
    assert not judgement.missing


def test_an_index_is_taken_without_an_incomplete_child_which_is_reported():
    judgement = without(layout((INDEX, (NAME,))), INDEX.images[1].layers[0]).judged()
    assert names_of(judgement) == {NAME}
    assert INDEX.images[1].digest not in digests(judgement)
    assert [p.blob for p in judgement.problems] == [str(INDEX.images[1].layers[0].digest)]


def test_an_index_without_any_document_is_incomplete():
    absent = [image.manifest for image in INDEX.images]
    judgement = without(layout((INDEX, (NAME,))), *absent).judged()
    assert not judgement.images
    assert judgement.missing
    assert [problem.blob for problem in judgement.problems] == [str(INDEX.digest)]


def test_an_index_whose_children_all_lack_blobs_is_not_taken():
    absent = [image.layers[0] for image in INDEX.images]
    judgement = without(layout((INDEX, (NAME,))), *absent).judged()
    assert not judgement.images
    assert judgement.missing
    assert {problem.blob for problem in judgement.problems} == {str(b.digest) for b in absent}


def test_an_empty_index_is_not_taken():
    empty = TestBlob(compact({"schemaVersion": 2, "manifests": []}), OCI_INDEX)
    assert not of_root(empty).judged().images


def test_nested_indexes_are_judged_through():
    inner = TestBlob(
        compact({"schemaVersion": 2, "manifests": [ONE.manifest.descriptor]}), OCI_INDEX
    )
    outer = TestBlob(
        compact({"schemaVersion": 2, "manifests": [inner.descriptor, TWO.manifest.descriptor]}),
        OCI_INDEX,
    )
    members = of_root(outer, inner, *ONE.blobs)
    judgement = members.judged()
    assert digests(judgement) == [ONE.digest, inner.digest, outer.digest]
    judgement = without(members, ONE.layers[0]).judged()
    assert not judgement.images
    assert judgement.missing


def test_an_image_inside_and_outside_an_index_is_judged_and_reported_once():
    image = INDEX.images[0]
    members = without(layout((INDEX, (NAME,)), (image, (OTHER,))), image.layers[0])
    judgement = members.judged()
    assert names_of(judgement) == {NAME}
    assert len(judgement.problems) == 1
    good = layout((INDEX, (NAME,)), (image, (OTHER,))).judged()
    assert len(good.documents) == 4


# Roots


def test_a_root_that_is_not_there_is_missing():
    judgement = without(layout((ONE, (NAME,)), (TWO, (OTHER,))), ONE.manifest).judged()
    assert names_of(judgement) == {OTHER}
    assert judgement.missing
    [problem] = judgement.problems
    assert (problem.image, problem.blob) == (NAME, str(ONE.digest))


def test_a_damaged_root_is_reported_once_and_not_as_missing():
    members = layout((ONE, (NAME,)), (TWO, (OTHER,)))
    judgement = members.with_file(blob_member(ONE.digest), b"{}").judged()
    assert names_of(judgement) == {OTHER}
    assert not judgement.missing
    assert len(judgement.problems) == 1


def test_a_rejected_manifest_is_not_taken():
    plan = layout((ONE, (NAME,)), (TWO, (OTHER,))).plan()
    sizes = {blob.digest: blob.size_bytes for blob in (*ONE.blobs, *TWO.blobs)}
    judgement = judge(replace(plan, rejected=frozenset({ONE.digest})), sizes.get)
    assert names_of(judgement) == {OTHER}


def test_a_problem_of_a_blob_is_told_with_each_image_that_it_costs():
    blob = str(ONE.layers[0].digest)
    absent = [INDEX.images[0].manifest.descriptor]
    inner = TestBlob(
        compact({"schemaVersion": 2, "manifests": [*absent, *[ONE.manifest.descriptor] * 2]}),
        OCI_INDEX,
    )
    index = {"schemaVersion": 2, "manifests": [
        {**inner.descriptor, "annotations": {IMAGE_NAME: "a.b/index:1"}},
        {**ONE.manifest.descriptor, "annotations": {IMAGE_NAME: NAME}},
        {**TWO.manifest.descriptor, "annotations": {IMAGE_NAME: OTHER}},
    ]}  # fmt: skip
    files = {blob_member(b.digest): b.raw for b in (inner, *ONE.blobs, *TWO.blobs)}
    plan = Members({**files, "index.json": compact(index)}).plan()
    problems = (Problem("damaged", blob=blob), Problem("said already", image="x", blob=blob))
    plan = replace(plan, rejected=frozenset({ONE.digest}), problems=problems)
    judgement = judge(plan, {b.digest: b.size_bytes for b in TWO.blobs}.get)
    assert names_of(judgement) == {OTHER}
    assert [(p.reason, p.image) for p in judgement.problems] == [
        ("damaged", "a.b/index:1"),
        ("damaged", NAME),
        ("said already", "x"),
    ]


def test_an_index_that_lists_one_index_thousands_of_times_is_judged_quickly():
    document = ONE.manifest
    files = {blob_member(b.digest): b.raw for b in ONE.blobs}
    for _ in range(4):
        value = {"schemaVersion": 2, "manifests": [document.descriptor] * 2000}
        document = TestBlob(compact(value), OCI_INDEX)
        files[blob_member(document.digest)] = document.raw
    index = compact({"schemaVersion": 2, "manifests": [document.descriptor]})
    plan = Members({**files, "index.json": index}).plan()
    plan = replace(plan, problems=(Problem("damaged", blob="sha256:other"),))
    judgement = judge(plan, {b.digest: b.size_bytes for b in ONE.blobs}.get)
    assert len(judgement.documents) == 5


def test_what_an_index_lists_and_nobody_has_is_told_of_an_archive_that_was_cut():
    whole = layout((INDEX, (NAME,)))
    assert first_absent(whole.plan()) is None
    gone = INDEX.images[1]
    found = first_absent(without(whole, gone.manifest).plan())
    assert found is not None
    assert found.digest == gone.digest
    assert first_absent(without(whole, gone.layers[0]).plan()) is None


@pytest.mark.parametrize("wrong", [{"size": 7}, {"mediaType": OCI_INDEX}])
def test_an_index_that_says_other_than_its_manifest_is_does_not_count_it(wrong):
    members = layout((ONE, (NAME,)))
    entries = [{**ONE.manifest.descriptor, **wrong}]
    raw = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    index = TestBlob(raw, OCI_INDEX)
    named = {**index.descriptor, "annotations": {IMAGE_NAME: OTHER}}
    value = json.loads(members.files["index.json"])
    value["manifests"].append(named)
    members = members.with_file("index.json", compact(value))
    judgement = members.with_file(blob_member(index.digest), raw).judged()
    assert names_of(judgement) == {NAME}
    [problem] = judgement.problems
    assert (problem.image, problem.blob) == (OTHER, str(ONE.digest))
