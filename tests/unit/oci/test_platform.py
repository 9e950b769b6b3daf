"""Platforms: one spelling each."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.core.errors import ManifestInvalidError
from airside.oci.platform import (
    Platform,
    best_for,
    node_platform,
    normalise,
    parse_platform,
    platform_from,
    select_all,
    select_for,
    select_listed,
)
from fuzz.platforms import check_choice

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


WORD = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)
PLATFORMS = st.builds(
    normalise,
    st.sampled_from(["linux", "Linux", "windows", "macos"]) | WORD,
    st.sampled_from(["amd64", "x86_64", "arm64", "aarch64", "arm", "armhf", "386"]) | WORD,
    st.sampled_from(["", "v1", "v2", "V3", "5", "v6", "v7", "8", "v8", "v8.3", "v9.1"]) | WORD,
    st.sampled_from(["", "10.0.17763"]) | WORD,
    st.lists(WORD, max_size=2).map(tuple),
)


@given(PLATFORMS)
def test_the_text_of_a_platform_reads_back(platform):
    assert parse_platform(platform.key) == platform
    again = normalise(
        platform.os,
        platform.architecture,
        platform.variant,
        platform.os_version,
        platform.os_features,
    )
    assert again == platform


@given(st.text(st.sampled_from("linuxarm64/()+.v8 \n\u00b2"), max_size=24))
def test_any_text_is_a_platform_or_refused(text):
    try:
        platform = parse_platform(text)
    except ManifestInvalidError:
        return
    assert parse_platform(platform.key) == platform


@given(st.dictionaries(st.sampled_from(["os", "architecture", "variant"]), st.text(max_size=6)))
def test_any_object_is_a_platform_with_a_text_or_none(fields):
    platform = platform_from(fields)
    assert platform is None or parse_platform(platform.key) == platform


KNOWN = st.sampled_from(sorted({*ONLY, *(text for order in ONLY.values() for text in order)}))
LISTS = st.lists(KNOWN.map(parse_platform), max_size=6)


@given(LISTS)
def test_a_choice_does_not_depend_on_the_order_and_its_own_comes_first(platforms):
    check_choice(platforms)


@given(KNOWN.map(parse_platform), LISTS, LISTS)
def test_more_to_choose_from_never_makes_the_choice_worse(node, platforms, more):
    few, many = best_for(node, platforms), best_for(node, [*platforms, *more])
    if few is not None:
        assert best_for(node, [few, many]) == many
    assert select_for(node)(platforms) == frozenset(() if few is None else [few])


@given(LISTS, st.lists(KNOWN, min_size=1, max_size=3))
def test_a_list_takes_each_platform_that_one_of_it_takes(platforms, wanted):
    together = select_listed(wanted)(platforms)
    assert together == frozenset().union(*(select_listed([each])(platforms) for each in wanted))
    assert together <= select_all(platforms)
    assert {p for p in platforms if str(p) in wanted} <= together
