"""Documents of the OCI image spec: what is kept, and what is refused because readers disagree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.core.errors import InputError, ManifestInvalidError
from airside.oci.digest import digest_of, parse_digest
from airside.oci.model import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_SIZE,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    parse_config,
    parse_descriptor,
    parse_document,
)
from airside.oci.platform import Platform
from airside.oci.strict_json import load_json
from support.images import compact, random_image, random_index

SHA = f"sha256:{'ab' * 32}"
DESCRIPTOR = {"mediaType": "application/x", "digest": SHA, "size": 3}


def manifest(**changes):
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {**DESCRIPTOR, "mediaType": OCI_CONFIG},
        "layers": [DESCRIPTOR],
        **changes,
    }
    return {key: item for key, item in value.items() if item != "absent"}


def index(**changes):
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [DESCRIPTOR], **changes}
    return {key: item for key, item in value.items() if item != "absent"}


def parse(value, media_type=OCI_MANIFEST):
    return parse_document(compact(value), media_type, "the document")


# JSON


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1,]",
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"a":1}}',
        b"NaN",
        b"1e999",
        b'{"a":[-1e400]}',
        b"[" * 102 + b"]" * 102,
        b'{"a":' * 101 + b"[1]" + b"}" * 101,
        b"[Infinity]",
        b"[-Infinity]",
        b'"\xff"',
        b'"\xed\xa0\x80"',  # a surrogate
        '"é"'.encode("latin-1"),
        '"x"'.encode("utf-16"),
        b"\xef\xbb\xbf{}",  # a byte order mark
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 5000,
        b"{} {}",
        b"{}\0",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_bad_json_is_refused(raw):
    with pytest.raises(ManifestInvalidError, match="the document"):
        load_json(raw, "the document")


def test_json_is_read():
    assert load_json(b"[" * 100 + b"]" * 100, "x")
    assert load_json(' {"a": [1, 2.5, null, "é"]} \n'.encode(), "x") == {"a": [1, 2.5, None, "é"]}


# Descriptors


def test_a_descriptor_is_read():
    found = parse_descriptor(
        {
            **DESCRIPTOR,
            "platform": {"os": "linux", "architecture": "aarch64"},
            "annotations": {"a": "b"},
            "artifactType": "application/y",
            "urls": ["https://example.com"],
        },
        "x",
    )
    assert found == Descriptor(
        "application/x",
        parse_digest(SHA),
        3,
        Platform("linux", "arm64"),
        {"a": "b"},
        "application/y",
    )


@pytest.mark.parametrize("size", [0, 1, MAX_SIZE])
def test_sizes_are_whole_numbers_from_0_to_63_bits(size):
    assert parse_descriptor({**DESCRIPTOR, "size": size}, "x").size_bytes == size


@pytest.mark.parametrize(
    "changes",
    [
        *({"size": size} for size in (-1, MAX_SIZE + 1, 10**400, 1.0, 1e3, True, False, "3", None)),
        *({"mediaType": value} for value in ("", None, 3, ["application/x"])),
        *({"digest": value} for value in ("", None, 3, "sha256:ab", SHA.upper(), f"{SHA} ")),
        *({"annotations": value} for value in ([], "x", {"a": 1}, {"a": None}, {"a": {}})),
    ],
    ids=str,
)
def test_a_bad_descriptor_is_refused(changes):
    with pytest.raises(ManifestInvalidError, match="the layer"):
        parse_descriptor({**DESCRIPTOR, **changes}, "the layer")


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_what_is_no_object_is_no_descriptor(value):
    with pytest.raises(ManifestInvalidError):
        parse_descriptor(value, "x")


def test_fields_that_decide_nothing_may_be_odd():
    found = parse_descriptor({**DESCRIPTOR, "platform": "x", "artifactType": 3}, "x")
    assert (found.platform, found.artifact_type, found.annotations) == (None, "", {})


@pytest.mark.parametrize(
    ("media_type", "distributable"),
    [
        ("application/vnd.oci.image.layer.v1.tar", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", False),
    ],
)
def test_foreign_layers_may_lack_their_bytes(media_type, distributable):
    found = parse_descriptor({**DESCRIPTOR, "mediaType": media_type}, "x")
    assert found.is_distributable is distributable


# Documents


def test_a_manifest_keeps_its_bytes():
    raw = json.dumps(manifest(), indent=3).encode() + b"\n"
    document = parse_document(raw, OCI_MANIFEST, "x")
    assert document.raw is raw
    assert document.digest == digest_of(raw)
    assert document.size_bytes == len(raw)
    assert isinstance(document.content, Manifest)
    assert [child.media_type for child in document.children] == [OCI_CONFIG, "application/x"]
    assert document.is_image


def test_an_index_is_read():
    document = parse(index(), OCI_INDEX)
    assert isinstance(document.content, Index)
    assert [str(child.digest) for child in document.children] == [SHA]
    assert not document.is_image


@pytest.mark.parametrize("media", ["oci", "docker"])
def test_documents_of_both_families_are_read(media):
    made = random_index("x", layers=1, media=media)
    document = parse_document(made.index.raw, made.index.media_type, "x")
    assert [child.digest for child in document.children] == [image.digest for image in made.images]
    assert all(child.is_document for child in document.children)
    image = random_image("x", media=media)
    document = parse_document(image.manifest.raw, image.manifest.media_type, "x")
    assert [child.digest for child in document.children] == [b.digest for b in image.blobs[1:]]


def test_the_media_type_inside_may_be_absent():
    assert parse(manifest(mediaType="absent")).media_type == OCI_MANIFEST
    assert parse(index(mediaType="absent"), DOCKER_LIST).media_type == DOCKER_LIST


def test_artifacts_carry_subject_type_and_annotations():
    document = parse(
        manifest(
            config={**DESCRIPTOR, "mediaType": OCI_EMPTY},
            subject=DESCRIPTOR,
            artifactType="application/sbom",
            annotations={"a": "b"},
        )
    )
    assert not document.is_image
    assert document.subject is not None
    assert str(document.subject.digest) == SHA
    assert (document.artifact_type, document.annotations) == ("application/sbom", {"a": "b"})
    assert parse(manifest(artifactType=3)).artifact_type == ""


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        # media type confusion, CVE-2021-41190
        (manifest(manifests=[DESCRIPTOR]), OCI_MANIFEST),
        (manifest(manifests=[DESCRIPTOR], mediaType="absent"), OCI_INDEX),
        (index(layers=[]), OCI_INDEX),
        (index(config=DESCRIPTOR), OCI_INDEX),
        (manifest(mediaType=OCI_INDEX), OCI_MANIFEST),
        (manifest(), DOCKER_MANIFEST),
        (manifest(), OCI_INDEX),
        (index(), OCI_MANIFEST),
        (index(), DOCKER_LIST),
        (index(mediaType="absent"), OCI_MANIFEST),
        (manifest(mediaType="absent"), OCI_INDEX),
        (manifest(mediaType=3), OCI_MANIFEST),
        # not a document that we know
        (manifest(mediaType="absent"), "application/x"),
        (manifest(schemaVersion=1), OCI_MANIFEST),
        (manifest(schemaVersion="2"), OCI_MANIFEST),
        (manifest(schemaVersion="absent"), OCI_MANIFEST),
        ([], OCI_MANIFEST),
        ("x", OCI_INDEX),
        # its parts
        (manifest(config="absent"), OCI_MANIFEST),
        (manifest(layers="absent"), OCI_MANIFEST),
        (manifest(layers={}), OCI_MANIFEST),
        (manifest(layers=[DESCRIPTOR, None]), OCI_MANIFEST),
        (manifest(config=None), OCI_MANIFEST),
        (manifest(subject={}), OCI_MANIFEST),
        (manifest(subject="x"), OCI_MANIFEST),
        (manifest(annotations=[]), OCI_MANIFEST),
        (index(manifests={}), OCI_INDEX),
        (index(manifests=["x"]), OCI_INDEX),
        (index(manifests="absent"), OCI_INDEX),
    ],
    ids=str,
)
def test_a_bad_document_is_refused(value, media_type):
    with pytest.raises(ManifestInvalidError, match="the document"):
        parse(value, media_type)


def test_a_list_that_go_writes_as_null_is_empty():
    assert parse(manifest(layers=None), OCI_MANIFEST).content.layers == ()
    assert parse(index(manifests=None), OCI_INDEX).content.manifests == ()


def test_the_message_names_the_bad_item():
    with pytest.raises(ManifestInvalidError, match=r"the document: layers\[1\]"):
        parse(manifest(layers=[DESCRIPTOR, {**DESCRIPTOR, "size": -1}]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(SHA),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(JSON, st.sampled_from([OCI_MANIFEST, OCI_INDEX, DOCKER_LIST, "application/x"]))
def test_any_json_is_a_document_or_an_input_error(value, media_type):
    raw = json.dumps(value).encode()
    for parse_one in (
        lambda: parse_document(raw, media_type, "x"),
        lambda: parse_config(raw, "x"),
        lambda: parse_descriptor(value, "x"),
    ):
        try:
            parse_one()
        except InputError:
            continue


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_an_input_error(raw):
    with pytest.raises(ManifestInvalidError):
        parse_document(raw, OCI_MANIFEST, "x")


# Artifacts

CHART = "application/vnd.cncf.helm.config.v1+json"
WASM = "application/vnd.wasm.content.layer.v1+wasm"
SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"


def of_type(media_type):
    return {**DESCRIPTOR, "mediaType": media_type}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"layers": []}, ""),
        ({"layers": [of_type(TAR), of_type("application/x")]}, ""),
        ({"layers": [of_type(SIGNATURE)]}, SIGNATURE),
        ({"config": of_type(CHART), "layers": [of_type(TAR)]}, CHART),
        ({"config": of_type(OCI_EMPTY), "artifactType": "application/z"}, "application/z"),
        ({"layers": [of_type(TAR)], "artifactType": "application/y"}, "application/y"),
        ({"layers": [of_type("text/spdx")]}, "text/spdx"),
        ({"layers": [of_type("application/vnd.cyclonedx")]}, "application/vnd.cyclonedx"),
        ({"layers": [of_type("application/vnd.oci.empty.v1+json")]},
         "application/vnd.oci.empty.v1+json"),
        ({"layers": [of_type("application/vnd.erofs.layer.v1")]}, ""),
        ({"layers": [of_type("application/octet-stream")]}, ""),
        ({"layers": [of_type(SIGNATURE), of_type("application/wasm")]}, ""),
        ({"layers": [of_type(WASM)], "artifactType": "application/vnd.component.v1+wasm"}, ""),
        ({"config": of_type("application/vnd.wasm.config.v0+json"), "layers": [of_type(WASM)]}, ""),
        ({"config": of_type("application/vnd.fermyon.spin.application.v1+config"),
          "layers": [of_type(WASM), of_type("application/vnd.wasm.content.layer.v1+data")]}, ""),
        ({"config": of_type("application/vnd.wasmcloud.provider.archive.config"),
          "layers": [of_type("application/vnd.wasmcloud.provider.archive.layer.v1+par")]},
         "application/vnd.wasmcloud.provider.archive.config"),
        ({"layers": [of_type(WASM)], "artifactType": "application/x", "subject": DESCRIPTOR},
         "application/x"),
    ],
)  # fmt: skip
def test_an_artifact_is_told_from_an_image(changes, kind):
    assert parse(manifest(**changes)).kind_of_artifact == kind


def test_an_index_is_an_artifact_if_it_says_so():
    assert parse(index(), OCI_INDEX).kind_of_artifact == ""
    assert parse(index(artifactType="application/y"), OCI_INDEX).kind_of_artifact == "application/y"


# Configs


def test_a_config_gives_platform_and_diff_ids():
    image = random_image("x", platform="linux/arm/v6")
    config = parse_config(image.config.raw, "x")
    assert config.platform == Platform("linux", "arm", "v6")
    assert config.diff_ids == tuple(layer.diff_id for layer in image.layers)


@pytest.mark.parametrize("value", [{}, {"rootfs": None}, {"rootfs": {}}, {"rootfs": []}])
def test_a_config_may_have_no_rootfs(value):
    assert parse_config(compact(value), "x").diff_ids == ()
    assert parse_config(compact(value), "x").platform is None


@pytest.mark.parametrize(
    "value",
    [[], "x", {"rootfs": {"diff_ids": "x"}}, {"rootfs": {"diff_ids": [1]}},
     {"rootfs": {"diff_ids": ["sha256:x"]}}, {"rootfs": {"diff_ids": {}}}],
)  # fmt: skip
def test_a_bad_config_is_refused(value):
    with pytest.raises(ManifestInvalidError, match="the config"):
        parse_config(compact(value), "the config")
