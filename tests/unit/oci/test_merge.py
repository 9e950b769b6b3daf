"""Parts of images, and the index that joins them."""

import json

import pytest

from airside.oci.digest import Digest
from airside.oci.merge import MOST_PARTS, Entry, Part, merged_index, parts_of
from airside.oci.model import OCI_INDEX, OCI_MANIFEST, Descriptor, Index, parse_document
from airside.oci.platform import Platform
from support.images import compact, random_image, random_index, sha256

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
ARM7 = Platform("linux", "arm", "v7")


def document(blob):
    return parse_document(blob.raw, blob.media_type, "test")


def index_of(*entries):
    raw = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})
    return parse_document(raw, OCI_INDEX, "test")


def entry(name, **more):
    digest = Digest("sha256", sha256(name.encode()).hex)
    return {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 3, **more}


def test_a_manifest_is_one_part_if_its_platform_is_known():
    image = document(random_image("a").manifest)
    held = {image.digest: image}
    expected = (Part(image.digest, AMD64, held=True),)
    assert parts_of(image.digest, held, {image.digest: AMD64}) == expected
    assert parts_of(image.digest, held, {}) == ()
    assert parts_of(image.digest, held, {image.digest: Platform("unknown", "unknown")}) == ()
    assert parts_of(image.digest, {}, {image.digest: AMD64}) == ()


def test_an_index_has_the_parts_that_it_lists_held_or_not():
    index = random_index("b")
    amd64 = document(index.images[0].manifest)
    root = document(index.index)
    parts = parts_of(root.digest, {root.digest: root, amd64.digest: amd64}, {})
    assert [(p.platform, p.held) for p in parts] == [(AMD64, True), (ARM64, False)]


def test_the_platform_that_an_index_gives_counts():
    root = index_of(entry("a", platform={"os": "linux", "architecture": "arm", "variant": "v6"}))
    held = {root.digest: root}
    child = root.children[0].digest
    parts = parts_of(root.digest, held, {child: ARM7})
    assert [str(p.platform) for p in parts] == ["linux/arm/v6"]


def test_nested_indexes_and_attestations_are_looked_into():
    about = entry("a", platform={"os": "linux", "architecture": "amd64"})
    said = entry(
        "said",
        platform={"os": "unknown", "architecture": "unknown"},
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about["digest"],
        },
    )
    inner = index_of(about, said, entry("artifact"))
    outer = index_of({"mediaType": OCI_INDEX, "digest": str(inner.digest), "size": 1})
    held = {d.digest: d for d in (inner, outer)}
    image, attestation = parts_of(outer.digest, held, {})
    assert (image.platform, image.attested) == (AMD64, None)
    assert (attestation.platform, attestation.attested) == (None, image.digest)


def test_the_merged_index_depends_on_its_parts_alone():
    def descriptor(name):
        return Descriptor(OCI_MANIFEST, Digest("sha256", sha256(name).hex), 7)

    windows = Platform("windows", "amd64", "", "10.0.17763", ("win32k",))
    entries = [
        Entry(ARM7, descriptor(b"v7")),
        Entry(AMD64, descriptor(b"amd64"), (descriptor(b"x"), descriptor(b"y"))),
        Entry(windows, descriptor(b"windows")),
    ]
    made = merged_index(entries)
    turned = [Entry(e.platform, e.manifest, e.attestations[::-1]) for e in reversed(entries)]
    assert merged_index(turned).raw == made.raw
    assert isinstance(made.content, Index)
    assert [c.platform for c in made.content.manifests if not c.annotations] == [
        AMD64,
        ARM7,
        windows,
    ]
    assert [bool(c.annotations) for c in made.content.manifests] == [
        False,
        True,
        True,
        False,
        False,
    ]
    value = json.loads(made.raw)
    assert value["manifests"][0] == {
        "mediaType": OCI_MANIFEST,
        "digest": str(descriptor(b"amd64").digest),
        "size": 7,
        "platform": {"architecture": "amd64", "os": "linux"},
    }


@pytest.mark.parametrize("count", [0, 1])
def test_an_index_of_few_is_an_index_too(count):
    entries = [Entry(AMD64, Descriptor(OCI_MANIFEST, Digest("sha256", "0" * 64), 1))] * count
    assert len(merged_index(entries).children) == count


class Counted(dict):
    """Documents that count how often they are asked for."""

    asked = 0

    def get(self, *args):
        self.asked += 1
        return super().get(*args)


def test_an_index_is_read_once_however_often_others_list_it():
    about = entry("a", platform={"os": "linux", "architecture": "amd64"})
    indexes = [index_of(about)]
    for _ in range(5):
        inner = indexes[-1]
        listed = {"mediaType": OCI_INDEX, "digest": str(inner.digest), "size": 1}
        indexes.append(index_of(*[listed] * 50))
    held = Counted((each.digest, each) for each in indexes)
    parts = parts_of(indexes[-1].digest, held, {})
    assert [str(part.platform) for part in parts] == ["linux/amd64"]
    assert held.asked <= 5 * 50 + 2


def test_a_document_of_more_parts_than_platforms_exist_has_none():
    amd64 = {"os": "linux", "architecture": "amd64"}
    parts = [entry(str(number), platform=amd64) for number in range(MOST_PARTS)]
    most, over = index_of(*parts), index_of(*parts, entry("one more", platform=amd64))
    assert len(parts_of(most.digest, {most.digest: most}, {})) == MOST_PARTS
    assert parts_of(over.digest, {over.digest: over}, {}) == ()


@pytest.mark.parametrize("text", ["sha256:" + "x" * 1000, "a:b", "sha256:", ""])
def test_what_is_no_digest_is_not_attested(text):
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    said = entry("said", annotations={**about, "vnd.docker.reference.digest": text})
    root = index_of(said)
    assert parts_of(root.digest, {root.digest: root}, {}) == ()
