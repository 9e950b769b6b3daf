"""The manifest that a node runs of an image, as containerd chooses it."""

from collections.abc import Callable

import pytest

from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_INDEX, OCI_MANIFEST, Descriptor, Document, Index
from airside.oci.platform import Platform
from airside.ports.node_manifest import Selector
from airside.ports.publication import NodeContent, Unwanted
from support.documents import AMD64, APP, ARM64, BOTH, OTHER, index, manifest


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


def other_than_chosen(
    image: Document, platform: Platform | None, others: str, node: Platform = AMD64
) -> NodeContent | Unwanted:
    documents = {each.digest: each for each in (APP, OTHER, WASM)}
    return Selector(
        node, lambda d: documents.get(d.digest), lambda _: platform, lambda _: True, others
    ).choose(image)


SOLE = index("sole", (APP, None))
WASM = manifest("wasm", layer_type="application/vnd.wasm.content.layer.v1+wasm")
WASIP1 = Platform("wasip1", "wasm")
S390X = Platform("linux", "s390x")
WINDOWS = Platform("windows", "amd64")


@pytest.mark.parametrize(
    "platform", [S390X, ARM64, Platform("linux", "amd64", "v3"), Platform("linux", "arm", "v5")]
)
@pytest.mark.parametrize("image", [APP, SOLE])
def test_an_only_manifest_is_chosen_whatever_its_config_says(
    image: Document, platform: Platform
) -> None:
    found = other_than_chosen(image, platform, "sole")
    assert isinstance(found, NodeContent)
    assert found.chain == (APP,), "containerd would find nothing in the index"
    assert str(platform) in found.note
    assert isinstance(other_than_chosen(image, platform, "none"), Unwanted)


def test_an_only_manifest_for_another_system_is_not_chosen() -> None:
    assert isinstance(other_than_chosen(APP, WINDOWS, "sole"), Unwanted)
    assert isinstance(other_than_chosen(APP, WINDOWS, "all"), NodeContent)


def test_the_platform_in_an_index_counts_whatever_the_config_says() -> None:
    listed = index("listed", (APP, AMD64))
    assert other_than_chosen(listed, S390X, "none") == NodeContent((listed, APP))
    other = index("elsewhere", (APP, ARM64))
    assert isinstance(other_than_chosen(other, AMD64, "sole"), Unwanted)
    found = other_than_chosen(other, AMD64, "all")
    assert isinstance(found, NodeContent)
    assert found.chain == (APP,)


def test_of_several_manifests_for_other_nodes_none_is_chosen() -> None:
    several = index("several", (APP, None), (OTHER, None))
    assert isinstance(other_than_chosen(several, S390X, "sole"), Unwanted)


@pytest.mark.parametrize("others", ["none", "sole", "all"])
@pytest.mark.parametrize(
    "platform",
    [WASIP1, Platform("wasi", "wasm"), Platform("wasi", "wasm32"), Platform("js", "wasm")],
)
def test_web_assembly_is_for_any_node(platform: Platform, others: str) -> None:
    for image in (WASM, APP):  # in layers of its own, and in those of an image
        found = other_than_chosen(image, platform, others)
        assert isinstance(found, NodeContent)
        assert "WebAssembly" in found.note
    listed = index("listed", (APP, platform))
    found = other_than_chosen(listed, None, others)
    assert isinstance(found, NodeContent)
    assert found.chain == (APP,)


def test_what_the_node_runs_itself_goes_before_web_assembly() -> None:
    both = index("both-kinds", (WASM, WASIP1), (APP, AMD64))
    assert other_than_chosen(both, None, "sole") == NodeContent((both, APP))


def test_an_only_manifest_of_an_unknown_platform_is_for_every_node() -> None:
    unknown = Platform("unknown", "unknown")
    assert other_than_chosen(APP, unknown, "none") == NodeContent((APP,))
