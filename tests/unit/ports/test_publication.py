"""Labels and names, which containerd's garbage collection and CRI follow."""

import pytest

from airside.oci.digest import Digest, digest_of
from airside.oci.model import Manifest
from airside.oci.reference import Repository
from airside.ports.publication import (
    ARCHIVES_LABEL,
    GC_LABEL,
    PINNED_LABEL,
    NamedImage,
    Naming,
    NodeContent,
    Publication,
    missing_labels,
    name_labels,
    parse_rewrite,
)
from support.documents import APP, BOTH, index

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
