import pytest
from hypothesis import given
from hypothesis import strategies as st

from airside.catalog.retention import (
    Policy,
    Pressure,
    TagAge,
    VersionAge,
    expired_tags,
    next_pressure,
    read_rules,
    why_untagged_goes,
    why_version_goes,
)
from airside.core.errors import ConfigError
from airside.core.settings import RetentionRule

NOW = 1000.0
PUSHED = frozenset({"push"})


def rule(*repositories, **said):
    return read_rules([RetentionRule(repositories or ("**",), **said)])[0]


def policy(*rules, **values):
    return Policy(NOW, values.pop("retention", 1), 100.0, rules=tuple(rules), **values)


def test_the_first_rule_decides_alone():
    rules = read_rules([RetentionRule(("team/**",)), RetentionRule(("**/app",), keep_last=1)])
    found = policy(*rules)
    assert found.rule_of("team/app") is rules[0]
    assert found.rule_of("other/app") is rules[1]
    assert found.rule_of("other") is None
    assert rules[1].name == "retention rule 2 (**/app)"


@pytest.mark.parametrize("said", [{"repositories": ("a**",)}, {"keep_tags": ("v 1",)}])
def test_a_rule_with_a_bad_pattern_is_refused(said):
    with pytest.raises(ConfigError) as caught:
        read_rules([RetentionRule(**{"repositories": ("**",), **said})])
    assert caught.value.context["key"] == "retention_rules"


AGES = st.lists(
    st.builds(
        TagAge,
        st.sampled_from([f"{kind}{n}" for kind in "va" for n in range(5)]),
        st.floats(0, NOW),
        st.sampled_from(
            [PUSHED, frozenset({"import"}), frozenset({"push", "archive"}), frozenset()]
        ),
        st.booleans(),
    ),
    unique_by=lambda tag: tag.tag,
)
RULES = st.builds(
    rule,
    keep_last=st.none() | st.integers(0, 4),
    older_than_seconds=st.none() | st.floats(0, NOW),
    keep_tags=st.sampled_from([(), ("v*",), ("*",)]),
    sources=st.sampled_from([("push",), ("import",), ("push", "import")]),
)


@given(RULES, AGES)
def test_what_goes_is_old_not_kept_and_held_only_by_what_the_rule_is_for(found, tags):
    gone = {
        tag.tag for tag, reason in expired_tags(found, tags, NOW) if reason.startswith(found.name)
    }
    said = found.said
    assert gone == {tag.tag for tag, _ in expired_tags(found, reversed(tags), NOW)}
    for tag in tags:
        newer = [t for t in tags if (-t.moved_at, t.tag) < (-tag.moved_at, tag.tag)]
        counted = [t for t in newer if not any(p.matches(t.tag) for p in found.keep_tags)]
        limited = said.keep_last is not None or said.older_than_seconds is not None
        goes = (
            limited
            and not any(p.matches(tag.tag) for p in found.keep_tags)
            and (said.keep_last is None or len(counted) >= said.keep_last)
            and (said.older_than_seconds is None or tag.moved_at <= NOW - said.older_than_seconds)
            and (tag.is_unbacked or (tag.backed_by and tag.backed_by <= set(said.sources)))
        )
        assert (tag.tag in gone) == bool(goes)


@pytest.mark.parametrize(
    ("said", "age", "replaced_at", "word"),
    [
        (None, 1, 0.0, ""),
        (None, 2, NOW, "(retention)"),
        ({}, 2, NOW, "(retention)"),
        ({"generations": 3}, 3, 0.0, ""),
        ({"generations": 0}, 1, NOW, "generations of retention rule 1"),
        ({"untagged_seconds": 10.0}, 2, NOW - 9, ""),
        ({"untagged_seconds": 10.0}, 2, NOW - 10, "(retention)"),
        ({"untagged_seconds": 10.0}, 1, 0.0, ""),
    ],
)
def test_versions_beyond_those_kept_go(said, age, replaced_at, word):
    found = None if said is None else rule(**said)
    reason = why_version_goes(policy(), found, VersionAge(age, replaced_at))
    assert bool(reason) == bool(word)
    assert word in reason


def test_under_pressure_versions_and_unbacked_images_go_before_their_time():
    pressed = policy(pressure=Pressure(generations_before=500.0, unbacked_before=950.0))
    assert "low_space_bytes" in why_version_goes(pressed, None, VersionAge(1, 500.0))
    assert not why_version_goes(pressed, None, VersionAge(1, 501.0))
    assert pressed.unbacked_before == 950.0
    assert policy().unbacked_before == 900.0
    assert "low_space_bytes" in pressed.why_unbacked(901.0)
    assert "unbacked_after_seconds" in pressed.why_unbacked(900.0)


@pytest.mark.parametrize(("limit", "since", "goes"), [
    (None, 0.0, False), (10.0, NOW - 9, False), (10.0, NOW - 10, True),
])  # fmt: skip
def test_what_no_tag_leads_to_goes_by_its_age_alone(limit, since, goes):
    assert bool(why_untagged_goes(policy(), rule(untagged_seconds=limit), since)) == goes
    assert not why_untagged_goes(policy(), None, since)


TIMES = st.lists(st.floats(0, NOW), max_size=8)


@given(TIMES, TIMES, st.integers(1, 20))
def test_pressure_takes_so_many_of_the_oldest_versions_first(versions, unbacked, count):
    if not versions and not unbacked:
        return
    found = next_pressure(versions, unbacked, count)
    taken = sum(at <= found.generations_before for at in versions)
    besides = sum(at <= found.unbacked_before for at in unbacked)
    assert taken + besides >= min(count, len(versions) if versions and not besides else count, 1)
    assert besides == 0 or taken == len(versions)
    if len(set(versions + unbacked)) == len(versions + unbacked):
        assert taken + besides == min(count, len(versions) + len(unbacked))


def test_what_was_pushed_has_its_grace_time_before_a_rule_takes_it():
    """A child that was pushed by digest just before must be old when its index expires."""
    found, graced = (
        rule(untagged_seconds=0.0, generations=0),
        policy(grace_seconds=9.0),
    )
    for since, goes in ((NOW - 8, False), (NOW - 9, True)):
        assert bool(why_version_goes(graced, found, VersionAge(1, since, pushed=True))) == goes
        assert bool(why_untagged_goes(graced, found, since)) == goes
        pressed = policy(grace_seconds=9.0, pressure=Pressure(generations_before=NOW))
        assert bool(why_version_goes(pressed, None, VersionAge(1, since, pushed=True))) == goes
        assert why_version_goes(graced, found, VersionAge(1, since))


def test_what_came_from_upstream_goes_after_its_time_or_for_a_full_disk():
    calm = policy(upstream_keep_seconds=50.0)
    assert calm.unused_before == NOW - 50.0
    full = policy(upstream_keep_seconds=50.0, pressure=Pressure(unbacked_before=NOW - 10.0))
    assert full.unused_before == NOW - 10.0
    assert "upstream_keep_seconds" in full.why_unused(NOW - 50.0)
    assert "low_space_bytes" in full.why_unused(NOW - 49.0)


def test_what_no_archive_brings_goes_after_its_time_or_for_a_full_disk():
    full = policy(pressure=Pressure(unbacked_before=NOW - 10.0))
    assert full.unbacked_before == NOW - 10.0
    assert "unbacked_after_seconds" in full.why_unbacked(NOW - 100.0)
    assert "low_space_bytes" in full.why_unbacked(NOW - 99.0)
