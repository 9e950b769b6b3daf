"""Labels and names, which containerd's garbage collection and CRI follow."""

from collections.abc import Callable

import pytest

from airside.oci.digest import Digest, digest_of
from airside.oci.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Document,
    Index,
    Manifest,
)
from airside.oci.platform import Platform
from airside.oci.reference import Repository
from airside.ports.publication import (
    ARCHIVES_LABEL,
    GC_LABEL,
    PINNED_LABEL,
    NamedImage,
    Naming,
    NodeContent,
    Publication,
    Selector,
    Unwanted,
    missing_labels,
    name_labels,
    parse_rewrite,
)

GC = "containerd.io/gc.ref.content."
SOURCE = "containerd.io/distribution.source.docker.io"


def test_another_child_keeps_its_number() -> None:
    added = missing_labels({f"{GC}m.0": "sha256:new"}, {f"{GC}m.0": "sha256:old"})
    assert added == {f"{GC}m.1": "sha256:new"}


def test_a_child_that_is_referred_to_already_is_not_labelled_again() -> None:
    assert missing_labels({f"{GC}m.0": "sha256:a"}, {f"{GC}m.3": "sha256:a"}) == {}


def test_a_second_config_gets_a_number() -> None:
    added = missing_labels({f"{GC}config": "sha256:b"}, {f"{GC}config": "sha256:a"})
    assert added == {f"{GC}config.0": "sha256:b"}


def test_repositories_of_a_registry_are_joined() -> None:
    assert missing_labels({SOURCE: "library/b"}, {SOURCE: "library/a"}) == {
        SOURCE: "library/a,library/b"
    }
    assert missing_labels({SOURCE: "library/a"}, {SOURCE: "library/a,library/b"}) == {}


def test_the_archives_label_is_never_too_long() -> None:
    labels = name_labels(pinned=False, archives=[f"/images/ä{n:0100}.tar" for n in range(100)])
    size = len(ARCHIVES_LABEL) + len(labels[ARCHIVES_LABEL].encode())
    assert size <= 4096
    assert labels[ARCHIVES_LABEL].endswith("…")
    assert PINNED_LABEL not in labels


def test_a_name_without_registry_is_none_for_a_runtime() -> None:
    assert Naming().names(Repository("", "unnamed/x"), "1", digest_of(b"")) == ()


def test_what_was_pushed_is_called_as_this_registry_is() -> None:
    naming = Naming(own_hosts=("127.0.0.1:5050", "localhost:5050"))
    names = naming.names(Repository("", "team/x"), "1", digest_of(b""))
    assert names == (
        "127.0.0.1:5050/team/x:1",
        f"127.0.0.1:5050/team/x@{digest_of(b'')}",
        "localhost:5050/team/x:1",
        f"localhost:5050/team/x@{digest_of(b'')}",
    )


def test_the_longest_prefix_is_rewritten() -> None:
    naming = Naming(rewrite=parse_rewrite(["docker.io/=a.example/", "docker.io/library/=b/"]))
    names = naming.names(Repository("docker.io", "library/x"), "1", digest_of(b""))
    assert names[0] == "b/x:1"


@pytest.mark.parametrize("text", ["", "=", "a", "a=", "=b"])
def test_a_rule_needs_both_sides(text: str) -> None:
    with pytest.raises(ValueError, match=text or None):
        parse_rewrite([text])


def test_labels_of_others_do_not_count() -> None:
    target = digest_of(b"x")
    image = NamedImage("x", target, {"other": "1", ARCHIVES_LABEL: "/a"})
    assert image.has(target, {ARCHIVES_LABEL: "/a"})
    assert not image.has(target, {ARCHIVES_LABEL: "/b"})
    assert not image.has(target, {ARCHIVES_LABEL: "/a", PINNED_LABEL: "pinned"})
    assert not image.has(digest_of(b"y"), {ARCHIVES_LABEL: "/a"})


def blob(text: str, media_type: str = OCI_LAYER) -> Descriptor:
    return Descriptor(media_type, digest_of(text.encode()), len(text))


def manifest(name: str, *, layer_type: str = OCI_LAYER, config_type: str = OCI_CONFIG) -> Document:
    layers = (blob(f"{name}-1", layer_type), blob(f"{name}-2", layer_type))
    content = Manifest(blob(f"{name}-config", config_type), layers)
    return Document(OCI_MANIFEST, name.encode(), digest_of(name.encode()), content)


def index(name: str, *children: tuple[Document, Platform | None]) -> Document:
    listed = tuple(
        Descriptor(child.media_type, child.digest, child.size_bytes, platform)
        for child, platform in children
    )
    return Document(OCI_INDEX, name.encode(), digest_of(name.encode()), Index(listed))


AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
APP = manifest("app")
OTHER = manifest("other")
BOTH = index("both", (OTHER, ARM64), (APP, AMD64))


def selector(
    *held: Document,
    whole: Callable[[Document], bool] = lambda _: True,
    platform: Platform | None = None,
) -> Selector:
    documents = {document.digest: document for document in held}
    return Selector(
        AMD64, lambda descriptor: documents.get(descriptor.digest), lambda _: platform, whole
    )


def test_of_an_index_the_manifest_of_the_node_is_chosen() -> None:
    assert selector(APP, OTHER).choose(BOTH) == NodeContent((BOTH, APP))


def test_a_manifest_that_is_no_longer_whole_is_not_chosen() -> None:
    found = selector(APP, OTHER, whole=lambda document: document is OTHER).choose(BOTH)
    assert isinstance(found, Unwanted)
    assert found.state == "not-for-node"
    assert found.reason == "not for this node, linux/amd64 (has: linux/arm64)"


def test_an_image_of_which_nothing_is_whole_is_incomplete() -> None:
    found = selector(APP, OTHER, whole=lambda _: False).choose(BOTH)
    assert isinstance(found, Unwanted)
    assert found.state == "incomplete"


def test_a_child_that_is_not_held_is_passed_over() -> None:
    found = selector(OTHER).choose(BOTH)
    assert isinstance(found, Unwanted)
    assert found.state == "not-for-node"


def test_the_platform_of_a_bare_manifest_is_that_of_its_config() -> None:
    assert selector(platform=AMD64).choose(APP) == NodeContent((APP,))
    assert isinstance(selector(platform=ARM64).choose(APP), Unwanted)


def test_a_manifest_without_any_platform_is_for_every_node() -> None:
    assert selector().choose(APP) == NodeContent((APP,))


def test_a_nested_index_is_followed_to_its_manifest() -> None:
    outer = index("outer", (BOTH, None))
    assert selector(BOTH, APP, OTHER).choose(outer) == NodeContent((outer, BOTH, APP))


def test_indexes_nested_without_end_hold_no_image() -> None:
    chain = [BOTH]
    for depth in range(12):
        chain.append(index(f"depth-{depth}", (chain[-1], None)))
    found = selector(APP, OTHER, *chain).choose(chain[-1])
    assert isinstance(found, Unwanted)
    assert found.state == "artifact"


def test_an_index_that_lists_itself_is_followed_once() -> None:
    raw = b"circle"
    own = Descriptor(OCI_INDEX, digest_of(raw), len(raw))
    listed = (own, Descriptor(OCI_MANIFEST, APP.digest, APP.size_bytes, AMD64))
    circle = Document(OCI_INDEX, raw, digest_of(raw), Index(listed))
    assert selector(circle, APP).choose(circle) == NodeContent((circle, APP))


def test_each_document_is_loaded_once_however_often_indexes_list_it() -> None:
    chain = [BOTH]
    for depth in range(5):
        chain.append(index(f"depth-{depth}", *[(chain[-1], None)] * 50))
    documents = {document.digest: document for document in (APP, OTHER, *chain)}
    loaded: list[Digest] = []

    def load(descriptor: Descriptor) -> Document | None:
        loaded.append(descriptor.digest)
        return documents.get(descriptor.digest)

    found = Selector(AMD64, load, lambda _: None, lambda _: True).choose(chain[-1])
    assert found == NodeContent((*reversed(chain), APP))
    assert len(loaded) <= 2 * len(documents)


def test_artifacts_are_for_no_runtime() -> None:
    chart = manifest("chart", config_type="application/vnd.cncf.helm.config.v1+json")
    signature = manifest("signature", layer_type="application/vnd.dev.cosign.simplesigning.v1+json")
    attested = index("attested", (APP, Platform("unknown", "unknown")))
    for artifact, reason in [
        (chart, "application/vnd.cncf.helm.config.v1+json"),
        (signature, "application/vnd.dev.cosign.simplesigning.v1+json"),
        (attested, "no image that a runtime could run"),
        (index("charts", (chart, AMD64)), "no image that a runtime could run"),
    ]:
        found = selector(APP, chart, signature).choose(artifact)
        assert isinstance(found, Unwanted)
        assert found.state == "artifact"
        assert reason in found.reason


def test_a_node_needs_layers_before_what_refers_to_them() -> None:
    content = NodeContent((BOTH, APP))
    assert isinstance(APP.content, Manifest)
    assert content.target is BOTH
    assert content.config == APP.content.config.digest
    assert [descriptor.digest for descriptor in content.blobs] == [
        *(layer.digest for layer in APP.content.layers),
        APP.content.config.digest,
        APP.digest,
        BOTH.digest,
    ]


def test_garbage_collection_follows_labels_to_config_layers_and_the_chosen_child() -> None:
    outer = index("outer", (BOTH, None))
    content = NodeContent((outer, BOTH, APP))
    assert isinstance(APP.content, Manifest)
    below = APP.content
    assert content.children(APP.digest) == {
        f"{GC}config": below.config.digest,
        f"{GC}l.0": below.layers[0].digest,
        f"{GC}l.1": below.layers[1].digest,
    }
    assert content.children(BOTH.digest) == {f"{GC}m.0": APP.digest}
    assert content.children(outer.digest) == {f"{GC}0": BOTH.digest}
    assert content.children(below.config.digest) == {}


def test_blobs_carry_the_repositories_of_each_registry() -> None:
    repositories = (
        Repository("docker.io", "library/a"),
        Repository("docker.io", "library/b"),
        Repository("docker.io", "library/a"),
        Repository("", "pushed"),
    )
    found = Publication(NodeContent((APP,)), {}, repositories)
    assert found.target.digest == APP.digest
    assert isinstance(APP.content, Manifest)
    assert found.blob_labels(APP.content.config.digest) == {SOURCE: "library/a,library/b"}
    assert found.blob_labels(APP.digest)[f"{GC}config"] == str(APP.content.config.digest)


def test_taken_numbers_of_children_are_passed_over() -> None:
    present = {f"{GC}m.0": "sha256:a", f"{GC}m.1": "sha256:b", f"{GC}m.2": "sha256:c"}
    assert missing_labels({f"{GC}m.0": "sha256:d"}, present) == {f"{GC}m.3": "sha256:d"}


def test_other_labels_are_added_where_they_differ() -> None:
    assert missing_labels({"a": "1", "b": "2"}, {"a": "1", "b": "3"}) == {"b": "2"}


def test_what_was_pushed_without_a_host_is_called_by_those_of_this_registry() -> None:
    digest = digest_of(b"x")
    naming = Naming(own_hosts=("here:5000", "127.0.0.1:5000"), extra_registries=("here:5000",))
    assert naming.names(Repository("", "team/app"), "v1", digest) == (
        "here:5000/team/app:v1",
        f"here:5000/team/app@{digest}",
        "127.0.0.1:5000/team/app:v1",
        f"127.0.0.1:5000/team/app@{digest}",
    )


@pytest.mark.parametrize("text", ["", "a", "=b", "a="])
def test_a_rewrite_without_two_sides_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        parse_rewrite(["a/=b/", text])


def test_a_child_gets_the_first_number_that_is_free() -> None:
    child, others = f"{GC_LABEL}l.0", {f"{GC_LABEL}l.0": "a", f"{GC_LABEL}l.1": "b"}
    assert missing_labels({child: "c"}, others) == {f"{GC_LABEL}l.2": "c"}
    assert missing_labels({child: "b"}, others) == {}


def test_a_name_of_ours_has_a_target_and_labels() -> None:
    labels = name_labels(pinned=True, archives=["/images/a.tar"])
    target = Digest("sha256", "0" * 64)
    ours = NamedImage("example.com/app:1", target, labels)
    assert (ours.is_of_airside, ours.pinned, ours.has(target, labels)) == (True, True, True)
    other = NamedImage("example.com/app:1", target)
    assert (other.is_of_airside, other.pinned, other.has(target, labels)) == (False, False, False)
