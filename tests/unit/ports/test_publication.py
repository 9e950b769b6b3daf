"""Labels and names, which containerd's garbage collection and CRI follow."""

import pytest

from airside.oci.digest import digest_of
from airside.oci.reference import Repository
from airside.ports.publication import (
    ARCHIVES_LABEL,
    PINNED_LABEL,
    NamedImage,
    Naming,
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
