import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.oci.patterns import Pattern, parse_pattern


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("team/app", {"team/app"}, {"team", "team/app/x", "x/team/app", "team/apps", ""}),
        ("team/*", {"team/app"}, {"team", "team/app/x", "teams/app"}),
        ("team/**", {"team", "team/app", "team/a/b/c"}, {"teams", "x/team/app"}),
        ("**/app", {"app", "team/app", "registry.example:5000/team/app"}, {"app/x", "anapp"}),
        ("**", {"app", "registry.example/team/app"}, set()),
        ("*", {"app"}, {"team/app"}),
        ("registry.example/**/v-*-x", {"registry.example/v--x", "registry.example/a/v-v-x-x"},
         {"registry.example/v-x", "registryxexample/v--x"}),
        ("a/**/b/**/c", {"a/b/c", "a/b/x/b/y/c"}, {"a/c", "a/b/c/d"}),
        ("[::1]:5000/*", {"[::1]:5000/app"}, {":5000/app"}),
        ("v*", {"v", "v1.2"}, {"latest", "1v"}),
        ("*-rc*", {"1-rc", "1-rc.2"}, {"1", "rc"}),
    ],
)  # fmt: skip
def test_a_star_is_within_a_segment_and_two_are_over_segments(pattern, names, others):
    parsed = parse_pattern(pattern)
    assert {name for name in names | others if parsed.matches(name)} == names
    assert str(parsed) == pattern


@pytest.mark.parametrize("text", ["", "/app", "app/", "a//b", "v**", "a/**b", "a?", "a b", "a/é"])
def test_what_no_name_can_be_is_refused(text):
    with pytest.raises(ValueError, match=r"the pattern .* has"):
        parse_pattern(text)


def test_many_stars_cost_no_more_than_both_lengths():
    assert not Pattern("a*" * 100 + "b").matches("a" * 10_000)
    assert not Pattern("**/a/" * 60 + "b").matches("/".join("a" * 2000))


def _expression(pattern: str) -> str:
    """The same as a regular expression over segments that each end in a slash."""
    parts = (
        "(?:[^/]*/)*" if segment == "**" else re.escape(segment).replace(r"\*", "[^/]*") + "/"
        for segment in pattern.split("/")
    )
    return "".join(parts) + r"\Z"


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b*", "**"]), min_size=1)


@given(SEGMENTS, st.lists(st.text("ab", min_size=1, max_size=4), min_size=1))
def test_a_pattern_is_the_regular_expression_that_it_stands_for(segments, name):
    pattern, text = "/".join(segments), "/".join(name)
    expected = re.match(_expression(pattern), text + "/") is not None
    assert parse_pattern(pattern).matches(text) == expected
