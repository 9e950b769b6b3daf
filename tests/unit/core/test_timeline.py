"""A timeline records the stages of one piece of work."""

import threading

import pytest

from airside.core.timeline import Timeline, recorded, stage


def test_stages_are_recorded_in_the_order_in_which_they_began() -> None:
    with recorded() as timeline:
        with stage("read"):
            pass
        with stage("sync"):
            pass
    assert list(timeline.stages) == ["read", "sync"]
    assert str(timeline).startswith("read ")


def test_a_stage_that_repeats_counts_from_its_first_begin() -> None:
    timeline = Timeline(started_at=100.0)
    timeline.add("plan", 101.0, 0.5)
    timeline.add("plan", 103.0, 0.25)
    assert timeline.milliseconds == {"plan": 750}
    assert str(timeline) == "plan 1000+750"


def test_a_stage_without_a_timeline_is_not_recorded() -> None:
    with stage("read"):
        pass
    with recorded() as timeline:
        pass
    assert not timeline.stages


def test_a_timeline_belongs_to_its_thread() -> None:
    def work() -> None:
        with stage("elsewhere"):
            pass

    with recorded() as timeline:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not timeline.stages


def test_a_stage_that_fails_is_recorded_too() -> None:
    with recorded() as timeline, pytest.raises(OSError, match="full"), stage("sync"):
        raise OSError("full")
    assert list(timeline.stages) == ["sync"]
