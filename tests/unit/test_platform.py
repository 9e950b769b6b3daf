"""Platforms: one spelling each."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.oci.platform import (
    Platform,
    best_for,
    node_platform,
    normalise,
    parse_platform,
    platform_from,
)

# containerd's platforms package, database.go
SPELLINGS = {
    ("linux", "x86_64", ""): "linux/amd64",
    ("Linux", "x86-64", ""): "linux/amd64",
    ("linux", "AMD64", "v1"): "linux/amd64",
    ("linux", "amd64", "v3"): "linux/amd64/v3",
    ("linux", "aarch64", ""): "linux/arm64",
    ("linux", "arm64", "v8"): "linux/arm64",
    ("linux", "arm64", "8"): "linux/arm64",
    ("linux", "arm64", "v9"): "linux/arm64/v9",
    ("linux", "arm", ""): "linux/arm/v7",
    ("linux", "arm", "6"): "linux/arm/v6",
    ("linux", "arm", "V5"): "linux/arm/v5",
    ("linux", "arm", "v8"): "linux/arm/v8",
    ("linux", "armhf", ""): "linux/arm/v7",
    ("linux", "armel", ""): "linux/arm/v6",
    ("linux", "i386", ""): "linux/386",
    ("macos", "arm64", ""): "darwin/arm64",
    ("linux", "riscv64", ""): "linux/riscv64",
    ("windows", "amd64", ""): "windows/amd64",
}


@pytest.mark.parametrize(("fields", "text"), SPELLINGS.items())
def test_spellings_become_one(fields, text):
    assert str(normalise(*fields)) == text


@given(st.sampled_from(list(SPELLINGS)), st.lists(st.sampled_from(["b", "a", "win32k"])))
def test_normalising_twice_changes_nothing(fields, features):
    once = normalise(*fields, "10.0", tuple(features))
    again = normalise(once.os, once.architecture, once.variant, once.os_version, once.os_features)
    assert again == once


def test_os_version_and_features_tell_platforms_apart():
    first = normalise("windows", "amd64", "", "10.0.1", ("b", "a"))
    assert first.os_features == ("a", "b")
    assert first != normalise("windows", "amd64", "", "10.0.2", ("a", "b"))


def test_a_platform_object_is_read():
    found = platform_from(
        {
            "os": "windows",
            "architecture": "amd64",
            "os.version": "10.0.20348",
            "os.features": ["win32k", 3],
        }
    )
    assert found == Platform("windows", "amd64", "", "10.0.20348", ("win32k",))


@pytest.mark.parametrize(
    "fields",
    [{}, {"os": "linux"}, {"architecture": "arm"}, {"os": 1, "architecture": "arm"}, {"os": ""}],
)
def test_half_a_platform_is_none(fields):
    assert platform_from(fields) is None


def test_fields_of_another_type_count_as_absent():
    fields = {"os": "linux", "architecture": "arm64", "variant": 8, "os.features": "x"}
    assert platform_from(fields) == Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("platform", "unknown"),
    [
        (Platform("unknown", "unknown"), True),
        (Platform("linux", "unknown"), True),
        (Platform("unknown", "amd64"), True),
        (Platform("linux", "amd64"), False),
    ],
)
def test_attestations_have_an_unknown_platform(platform, unknown):
    assert platform.is_unknown is unknown


@pytest.mark.parametrize(
    ("machine", "text"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv7l", "linux/arm/v7"),
     ("armv6l", "linux/arm/v6")],
)  # fmt: skip
def test_the_platform_of_the_machine(machine, text, monkeypatch):
    found = os.uname_result(("Linux", "node", "6.1", "#1", machine))
    monkeypatch.setattr(os, "uname", lambda: found)
    assert str(node_platform()) == text


@pytest.mark.parametrize("key", ["os", "architecture"])
@pytest.mark.parametrize(
    "text", ["a/b", "a(b", "a+b", "a b", "a\nb", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_what_no_platform_is_called_counts_as_absent(key, text):
    assert platform_from({"os": "linux", "architecture": "arm", key: text}) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("variant", "v7/x"), ("os.version", "1)/x"), ("os.features", ["a+b", "/"])],
)
def test_an_odd_variant_version_or_feature_is_left_out(key, value):
    fields = {"os": "linux", "architecture": "amd64"}
    assert platform_from({**fields, key: value}) == platform_from(fields)


# What containerd's platforms.Only(NODE) matches, in its order (compare.go)
ONLY = {
    "linux/amd64": ["linux/amd64", "linux/386"],
    "linux/amd64/v3": ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"],
    "linux/386": ["linux/386"],
    "linux/arm/v8": ["linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
    "linux/arm/v6": ["linux/arm/v6", "linux/arm/v5"],
    "linux/arm64": ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
    "linux/arm64/v8.2": ["linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64", "linux/arm/v8"],
    "linux/arm64/v9": [
        "linux/arm64/v9",
        "linux/arm64/v8.5",
        "linux/arm64/v8.4",
        "linux/arm64/v8.3",
    ],
    "linux/arm64/v9.1": [
        "linux/arm64/v9.1",
        "linux/arm64/v9",
        "linux/arm64/v8.6",
        "linux/arm64/v8.5",
    ],
    "linux/riscv64": ["linux/riscv64"],
    "linux/amd64/own": ["linux/amd64/own", "linux/386"],
}
OTHERS = ["linux/s390x", "windows/amd64", "linux/amd64/v4", "linux/arm64/v9.9", "linux/arm/v9"]


@pytest.mark.parametrize(("node", "order"), ONLY.items())
def test_a_node_takes_what_containerd_takes_in_its_order(node, order):
    own = parse_platform(node)
    left = [parse_platform(text) for text in reversed(order)]
    none = [parse_platform(text) for text in OTHERS if text not in order]
    assert best_for(own, none) is None
    for wanted in order:
        best = best_for(own, [*none, *left])
        assert str(best) == wanted
        left.remove(best)
