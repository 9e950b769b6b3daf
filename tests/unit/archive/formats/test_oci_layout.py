"""Plans of OCI image layouts in a tar."""

import json
from dataclasses import replace

import pytest

from airside.archive.formats.entry_names import name_of
from airside.archive.formats.index_json import IMAGE_NAME, REF_NAME, parse_index_json
from airside.archive.formats.oci_layout import LayoutDraft, blob_member
from airside.archive.formats.plan import OCI_LAYOUT, PlannedImage
from airside.archive.writer.oci_archive import oci_members
from airside.core.errors import ArchiveLimitError, ManifestInvalidError, ReferenceInvalidError
from airside.oci.digest import digest_of
from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from airside.oci.platform import Platform
from support.images import TestBlob, compact, image_of, random_image, random_index, random_layer
from support.members import Members

NAME = "example.com/app:1"
SHA = f"sha256:{'ab' * 32}"


def layout(*roots, hybrid=False):
    return Members.of(oci_members([root.spec(names) for root, names in roots], hybrid=hybrid))


def index_json(*descriptors):
    return compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(descriptors)})


def changed_root(members, number=0, **changes):
    """The archive with one entry of `index.json` changed."""
    value = json.loads(members.files["index.json"])
    value["manifests"][number] |= changes
    return members.with_file("index.json", compact(value))


def damaged(members, digest, at=-1):
    data = bytearray(members.files[blob_member(digest)])
    data[at] ^= 1
    return members.with_file(blob_member(digest), bytes(data))


def names_of(plan):
    return {str(reference): image.root for image in plan.images for reference in image.references}


# index.json


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schemaVersion":2}',
        b'{"schemaVersion":1,"manifests":[]}',
        b'{"schemaVersion":2,"manifests":{}}',
        b'{"schemaVersion":2,"manifests":"absent"}',
        b'{"schemaVersion":2,"manifests":[{}]}',
        b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
        b'{"schemaVersion":2,"manifestz":null}',
    ],
)
def test_a_bad_index_json_is_refused(raw):
    with pytest.raises(ManifestInvalidError, match=r"index\.json"):
        parse_index_json(raw)


@pytest.mark.parametrize("manifests", [None, []])
def test_an_index_json_may_list_nothing(manifests):
    assert parse_index_json(compact({"schemaVersion": 2, "manifests": manifests})) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha384:" + "ab" * 48},
        {"mediaType": None},
        {"size": -1},
        {"annotations": {REF_NAME: "a.b/x:1", "x": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_entry_of_index_json_that_is_wrong_costs_its_own_image(change):
    first, second = random_image("x", layer_bytes=300), random_image("y", layer_bytes=300)
    plan = changed_root(layout((first, ("a.b/x:1",)), (second, (NAME,))), **change).plan()
    assert names_of(plan) == {NAME: second.digest}
    [problem] = plan.problems
    assert problem.image == "a.b/x:1"
    assert "manifests[0]" in problem.reason


def test_an_entry_that_is_no_object_has_no_name():
    image = random_image("x", layer_bytes=300)
    members = layout((image, (NAME,)))
    roots = json.loads(members.files["index.json"])["manifests"]
    plan = members.with_file("index.json", index_json(7, {"annotations": 7}, *roots)).plan()
    assert set(names_of(plan)) == {NAME}
    assert [problem.image for problem in plan.problems] == ["", ""]


# A good layout


def test_images_and_indexes_are_kept_byte_for_byte():
    image, index = random_image("x", layer_bytes=300), random_index("y", layer_bytes=300)
    plan = layout((image, ("a.b/x:1", "a.b/x:2")), (index, (NAME,))).plan()
    assert plan.format == OCI_LAYOUT
    assert not plan.problems
    assert names_of(plan) == {"a.b/x:1": image.digest, "a.b/x:2": image.digest, NAME: index.digest}
    documents = [image.manifest, index.index, *(each.manifest for each in index.images)]
    assert {d.digest: d.raw for d in plan.documents.values()} == {
        d.digest: d.raw for d in documents
    }
    assert set(plan.blobs) == {b.digest for root in (image, index) for b in root.blobs}
    assert plan.platforms == {
        image.digest: Platform("linux", "amd64"),
        index.images[0].digest: Platform("linux", "amd64"),
        index.images[1].digest: Platform("linux", "arm64"),
    }


def test_artifacts_are_taken_as_they_are():
    blob = TestBlob(b"not a tar", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    config = TestBlob(b"no JSON", "application/vnd.cncf.helm.config.v1+json")
    manifest = TestBlob(
        compact({"schemaVersion": 2, "config": config.descriptor, "layers": [blob.descriptor]}),
        OCI_MANIFEST,
    )
    files = {blob_member(b.digest): b.raw for b in (blob, config, manifest)}
    plan = Members({**files, "index.json": index_json(manifest.descriptor)}).plan()
    assert not plan.problems
    assert not plan.platforms
    assert set(plan.documents) == {manifest.digest}


def test_documents_that_the_store_holds_need_not_be_there():
    index = random_index("y", layer_bytes=300)
    child = index.images[1]
    members = layout((index, (NAME,))).without(blob_member(child.digest))
    assert child.digest not in members.plan().documents
    members = replace(members, held={child.digest: child.manifest.raw})
    assert child.digest in members.plan().documents


def test_sha512_documents_keep_their_name():
    image = random_image("x", layer_bytes=300)
    long = digest_of(image.manifest.raw, "sha512")
    members = layout((image, (NAME,)))
    members = members.with_file(blob_member(long), image.manifest.raw)
    members = changed_root(members, digest=str(long))
    plan = members.plan()
    assert names_of(plan) == {NAME: long}
    assert plan.documents[long].digest == long
    assert plan.documents[long].raw == image.manifest.raw


def test_a_document_that_is_listed_twice_is_read_once():
    index = random_index("y", layer_bytes=300)
    members = layout((index, (NAME,)), (index.images[0], ("a.b/x:1",)))
    plan = members.plan()
    assert names_of(plan) == {NAME: index.digest, "a.b/x:1": index.images[0].digest}
    assert len(plan.documents) == 3


def test_one_root_may_be_named_twice():
    image = random_image("x", layer_bytes=300)
    plan = layout((image, (NAME, NAME, "a.b/c:1"))).plan()
    [planned] = plan.images
    assert [str(r) for r in planned.references] == [NAME, "a.b/c:1"]


def test_nothing_is_expected_beyond_names():
    draft = layout((random_image("x", layer_bytes=300), (NAME,))).draft()
    assert isinstance(draft, LayoutDraft)
    assert draft.expected(lambda _name: b"") == {}


# Nested indexes


def nested(depth):
    image = random_image("x", layer_bytes=300)
    files = {blob_member(b.digest): b.raw for b in image.blobs}
    inner = image.manifest
    for _ in range(depth):
        inner = TestBlob(index_json(inner.descriptor), OCI_INDEX)
        files[blob_member(inner.digest)] = inner.raw
    return image, Members({**files, "index.json": index_json(inner.descriptor)})


def test_indexes_may_be_nested_up_to_the_limit():
    image, members = nested(4)
    assert image.digest in members.plan(nesting=4).documents
    with pytest.raises(ArchiveLimitError, match=r"limits\.nesting"):
        members.plan(nesting=3)


def test_an_index_may_list_what_is_no_document():
    image = random_image("x", layer_bytes=300)
    other = TestBlob(b"attached", "text/plain")
    index = TestBlob(index_json(image.manifest.descriptor, other.descriptor), OCI_INDEX)
    files = {blob_member(b.digest): b.raw for b in (*image.blobs, other, index)}
    plan = Members({**files, "index.json": index_json(index.descriptor)}).plan()
    assert not plan.problems
    assert set(plan.documents) == {index.digest, image.digest}
    assert other.digest in plan.blobs


# Damage


def test_a_damaged_root_is_a_problem_that_names_its_image():
    image, other = (random_image(n, layer_bytes=300) for n in "xy")
    plan = damaged(layout((image, (NAME,)), (other, ("a.b/c:1",))), image.digest).plan()
    assert image.digest not in plan.documents
    assert other.digest in plan.documents
    [problem] = plan.problems
    assert (problem.image, problem.blob) == (NAME, str(image.digest))


def test_a_damaged_root_is_reported_once_for_all_its_names():
    image = random_image("x", layer_bytes=300)
    plan = damaged(layout((image, (NAME, "a.b/c:1"))), image.digest).plan()
    assert len(plan.problems) == 1


def test_a_damaged_layer_has_no_blob():
    image = random_image("x", layer_bytes=300)
    layer = image.layers[0].digest
    plan = damaged(layout((image, (NAME,))), layer).plan()
    assert layer not in plan.blobs
    assert [problem.blob for problem in plan.problems] == [str(layer)]


@pytest.mark.parametrize("size", [0, 3, 1 << 40])
def test_a_descriptor_with_another_size_is_a_problem(size):
    image = random_image("x", layer_bytes=300)
    plan = changed_root(layout((image, (NAME,))), size=size).plan()
    assert not plan.documents
    assert plan.problems[0].blob == str(image.digest)


def test_a_root_that_is_no_document_is_a_problem():
    image = random_image("x", layer_bytes=300)
    plan = changed_root(layout((image, (NAME,))), mediaType="application/x").plan()
    assert not plan.documents
    assert "no manifest or index" in plan.problems[0].reason


def test_a_config_that_is_no_json_rejects_its_manifest():
    image = random_image("x", layer_bytes=300)
    config = TestBlob(b"{", image.config.media_type)
    manifest = TestBlob(
        image.manifest.raw.replace(compact(image.config.descriptor), compact(config.descriptor)),
        OCI_MANIFEST,
    )
    files = {blob_member(b.digest): b.raw for b in (config, manifest, *image.layers)}
    plan = Members({**files, "index.json": index_json(manifest.descriptor)}).plan()
    assert plan.rejected == {manifest.digest}
    assert [problem.blob for problem in plan.problems] == [str(config.digest)]


def with_diff_ids(image, diff_ids):
    value = json.loads(image.config.raw)
    value["rootfs"]["diff_ids"] = diff_ids
    return image_of(image.layers, config={"rootfs": value["rootfs"]})


def test_the_diff_id_of_a_plain_layer_is_its_digest():
    image = random_image("x", layer_bytes=300)
    wrong = with_diff_ids(image, [str(image.layers[1].digest)] * 2)
    members = Members(
        {
            **{blob_member(b.digest): b.raw for b in wrong.blobs},
            "index.json": index_json(wrong.manifest.descriptor),
        }
    )
    plan = members.plan()
    assert plan.rejected == {wrong.digest}
    assert [problem.blob for problem in plan.problems] == [str(image.layers[0].digest)]
    short = with_diff_ids(image, [])
    files = {blob_member(b.digest): b.raw for b in short.blobs}
    assert (
        not Members({**files, "index.json": index_json(short.manifest.descriptor)}).plan().rejected
    )


def test_diff_ids_of_compressed_or_absent_layers_are_left_to_others():
    layers = [random_layer("a", layer_bytes=300, compression="stored"), random_layer("b")]
    members = layout((image_of(layers), (NAME,)))
    assert not members.plan().rejected
    assert not members.without(blob_member(layers[1].digest)).plan().rejected


def test_a_config_may_tell_no_platform():
    image = image_of([], config={"os": "", "rootfs": None})
    plan = layout((image, (NAME,))).plan()
    assert names_of(plan) == {NAME: image.digest}
    assert not plan.platforms


def test_a_sha512_layer_is_not_compared_with_a_sha256_diff_id():
    image = random_image("x", layers=1, layer_bytes=300)
    layer = image.layers[0]
    long = digest_of(layer.raw, "sha512")
    manifest = TestBlob(
        image.manifest.raw.replace(str(layer.digest).encode(), str(long).encode()), OCI_MANIFEST
    )
    files = {blob_member(b.digest): b.raw for b in (image.config, manifest)}
    files[blob_member(long)] = layer.raw
    plan = Members({**files, "index.json": index_json(manifest.descriptor)}).plan()
    assert not plan.problems
    assert long in plan.blobs


# Names


@pytest.mark.parametrize(
    ("full", "ref_name", "found"),
    [
        ("", "", None),
        ("", "latest", None),
        ("", "a.b/c:1", "a.b/c:1"),
        ("", "busybox:1", "docker.io/library/busybox:1"),
        ("", "x/y", "docker.io/x/y:latest"),
        ("a.b/c:1", "", "a.b/c:1"),
        ("a.b/c:1", "1", "a.b/c:1"),
        ("a.b/c", "latest", "a.b/c:latest"),
        ("a.b/c:1", "a.b/c:1", "a.b/c:1"),
        ("busybox", "busybox", "docker.io/library/busybox:latest"),
        ("docker.io/library/busybox:1", "busybox:1", "docker.io/library/busybox:1"),
        (f"a.b/c@{SHA}", "1", f"a.b/c@{SHA}"),
        # containerd's export: what follows the repository, and CRI's own name of an image
        (f"a.b/c@{SHA}", f"@{SHA}", f"a.b/c@{SHA}"),
        (f"a.b:5/c:1@{SHA}", f"1@{SHA}", f"a.b:5/c:1@{SHA}"),
        (SHA, SHA, None),
        ("", SHA, None),
    ],
)
def test_annotations_name_an_image(full, ref_name, found):
    annotations = {IMAGE_NAME: full, REF_NAME: ref_name}
    reference = name_of({key: value for key, value in annotations.items() if value}).reference
    assert reference is None if found is None else str(reference) == found


@pytest.mark.parametrize(
    ("full", "ref_name"),
    [("a.b/c:1", "2"), ("a.b/c:1", "a.b/c:2"), ("a.b/c:1", "a.b/d:1"), ("a.b/c:1", "a.B/c:1"),
     ("Bad Name", ""), ("", "Bad/N:"), ("Bad Name", "1"), (f"a.b/c@{SHA}", f"@{SHA[:-1]}c"),
     (f"a.b/c:1@{SHA}", f"2@{SHA}")],
)  # fmt: skip
def test_bad_names_and_names_that_disagree_are_refused(full, ref_name):
    with pytest.raises(ReferenceInvalidError):
        name_of({IMAGE_NAME: full, REF_NAME: ref_name})


def test_a_bad_name_fails_that_name_only():
    image = random_image("x", layer_bytes=300)
    members = layout((image, (NAME, "a.b/c:1")))
    plan = changed_root(members, annotations={REF_NAME: "Bad/Name:"}).plan()
    assert names_of(plan) == {"a.b/c:1": image.digest}
    [problem] = plan.problems
    assert (problem.image, problem.blob) == ("Bad/Name:", str(image.digest))


def test_a_tag_alone_names_nothing_and_is_noted():
    image = random_image("x", layer_bytes=300)
    plan = changed_root(layout((image, (NAME,))), annotations={REF_NAME: "v1"}).plan()
    [planned] = plan.images
    assert (planned.references, planned.aliases, planned.shown) == ((), ("v1",), "v1")
    assert "'v1'" in plan.notes[0]
    assert not plan.problems


@pytest.mark.parametrize("tag", ["", ":1"])
def test_a_digest_in_a_name_is_that_of_the_document_or_of_before_a_conversion(tag):
    image = random_image("x", layer_bytes=300)
    members = layout((image, (NAME,)))
    right, old = f"a.b/c{tag}@{image.digest}", f"a.b/c{tag}@{SHA}"
    for name in (right, old):
        plan = changed_root(members, annotations={IMAGE_NAME: name}).plan()
        assert names_of(plan) == {"a.b/c:1" if tag else right: image.digest}
        assert not plan.problems
        assert ("before a conversion" in " ".join(plan.notes)) == (name == old)


@pytest.mark.parametrize("tag", ["", ":1"])
def test_a_digest_in_a_name_that_is_nearly_that_of_the_document_is_damaged(tag):
    image = random_image("x", layer_bytes=300)
    last = image.digest.hex[-1]
    flipped = {"a": "c", "f": "d"}.get(last) or chr(ord(last) ^ 1)
    wrong = f"a.b/c{tag}@sha256:{image.digest.hex[:-1]}{flipped}"
    plan = changed_root(layout((image, (NAME,))), annotations={IMAGE_NAME: wrong}).plan()
    assert names_of(plan) == {}
    assert [problem.image for problem in plan.problems] == [wrong]


def test_an_image_id_is_no_name():
    image = random_image("x", layer_bytes=300)
    plan = changed_root(layout((image, ())), annotations={IMAGE_NAME: SHA, REF_NAME: SHA}).plan()
    assert [(each.references, each.tags) for each in plan.images] == [((), ())]
    assert (plan.problems, plan.notes) == ((), ())


def test_an_image_without_annotations_is_shown_by_its_digest():
    image = random_image("x", layer_bytes=300)
    [planned] = layout((image, ())).plan().images
    assert planned == PlannedImage(image.digest)
    assert planned.title == str(image.digest)


def test_names_of_manifest_json_may_be_fewer():
    image, index = random_image("x", layer_bytes=300), random_index("y", layer_bytes=300)
    members = layout((image, ("a.b/x:1",)), (index, (NAME,)), hybrid=True)
    value = json.loads(members.files["manifest.json"])
    plan = members.with_file("manifest.json", compact(value[:1])).plan()
    assert set(names_of(plan)) == {"a.b/x:1", NAME}
    assert not plan.problems


@pytest.mark.parametrize(("number", "other"), [(0, "a.b/z:1"), (1, "example.com/apq:1")])
def test_names_of_which_manifest_json_has_another_are_not_believed(number, other):
    image, index = random_image("x", layer_bytes=300), random_index("y", layer_bytes=300)
    members = layout((image, ("a.b/x:1",)), (index, (NAME,)), hybrid=True)
    value = json.loads(members.files["manifest.json"])
    [own] = value[number]["RepoTags"]
    value[number]["RepoTags"] = [other]
    plan = members.with_file("manifest.json", compact(value)).plan()
    assert set(names_of(plan)) == {"a.b/x:1", NAME} - {own}
    assert {problem.image for problem in plan.problems} == {own, other}


def test_a_name_that_became_another_roots_stays_that_roots():
    first, second = random_image("x", layer_bytes=300), random_image("y", layer_bytes=300)
    members = layout((first, ("a.b/x:2",)), (second, ("a.b/x:3",)), hybrid=True)
    renamed = changed_root(members, annotations={REF_NAME: "a.b/x:3"})
    plan = renamed.plan()
    assert names_of(plan) == {"a.b/x:3": second.digest}  # its two records agree
    assert {problem.image for problem in plan.problems} == {"a.b/x:2", "a.b/x:3"}
    assert names_of(renamed.without("manifest.json").plan()) == {"a.b/x:3": second.digest}


@pytest.mark.parametrize(("raw", "is_told"), [(b"{", False), (b"[{", True), (b"[{}]", True)])
def test_a_manifest_json_that_is_not_understood_may_have_listed_more(raw, is_told):
    image = random_image("x", layer_bytes=300)
    plan = layout((image, (NAME,)), hybrid=True).with_file("manifest.json", raw).plan()
    assert set(names_of(plan)) == {NAME}
    assert bool(plan.problems) == is_told
