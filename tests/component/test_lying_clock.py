"""A host whose clock lies: nothing is deleted by an age that it made up."""

from pathlib import Path

import pytest

from airside.agent.node import Node, open_node
from airside.core.clock import STEADY_SECONDS, Clock
from airside.core.settings import RetentionRule
from airside.importer.importer import Job
from support.images import oci_archive, random_image
from support.nodes import settings_at, visible
from support.pushes import push_image

DAY = 86_400.0
TODAY = 1_800_000_000.0
APP = "example.com/app:1"


class Wall:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Ticking:
    """The wall clock and the clock since boot of a node, moved together."""

    def __init__(self, node: Node, wall: Wall) -> None:
        self.ticks, self.wall, self.node = 0.0, wall, node
        noted = node.catalog.noted_time
        self.clock = Clock(noted, wall=wall, ticks=lambda: self.ticks)
        node.clock = self.clock

    def run(self, seconds: float) -> None:
        for _ in range(10):
            self.ticks += seconds / 10
            self.wall.now += seconds / 10
            self.node.keep_time()
            self.node.collect_garbage()


def drop_and_remove(node: Node, path: Path) -> None:
    oci_archive(path, {APP: random_image(1)})
    [number] = node.catalog.source_states.settle([(str(path), "", 1)], node.clock()).values()
    node.imports.run(Job(number, path), stop=lambda: False, progress=lambda *_: None)
    node.remove({str(path): "unpin"})


@pytest.mark.parametrize("first", [100.0, TODAY - 500 * DAY, TODAY])
def test_what_went_while_the_clock_was_wrong_is_as_old_as_it_is(
    first: float, tmp_path: Path
) -> None:
    wall = Wall(first)
    with open_node(settings_at(tmp_path / "data"), wall=wall) as node:
        host = Ticking(node, wall)
        drop_and_remove(node, tmp_path / "a.tar")
        wall.now = TODAY + 90 * DAY  # NTP is here
        host.run(STEADY_SECONDS * 3)
        assert set(visible(node)) == {APP}
        host.run(29 * DAY)
        assert set(visible(node)) == {APP}
        host.run(2 * DAY)
        assert visible(node) == {}


def test_a_start_without_a_battery_counts_on_from_the_last_time(tmp_path: Path) -> None:
    data, wall = settings_at(tmp_path / "data"), Wall(TODAY)
    with open_node(data, wall=wall) as node:
        drop_and_remove(node, tmp_path / "a.tar")
    wall.now = 100.0
    with open_node(data, wall=wall) as node:
        assert node.clock() >= TODAY
        host = Ticking(node, wall)
        host.run(29 * DAY)
        assert set(visible(node)) == {APP}
        host.run(2 * DAY)
        assert visible(node) == {}


def test_what_an_earlier_process_recorded_in_1970_is_not_old(tmp_path: Path) -> None:
    data, wall = settings_at(tmp_path / "data"), Wall(100.0)
    with open_node(data, wall=wall) as node:
        drop_and_remove(node, tmp_path / "a.tar")
    wall.now = TODAY
    with open_node(data, wall=wall) as node:
        host = Ticking(node, wall)
        host.run(STEADY_SECONDS * 3)
        assert set(visible(node)) == {APP}
        host.run(31 * DAY)
        assert visible(node) == {}


def test_a_clock_far_ahead_for_a_while_expires_no_rule_and_no_push(tmp_path: Path) -> None:
    rule = RetentionRule(("**",), older_than_seconds=DAY)
    wall = Wall(TODAY)
    with open_node(settings_at(tmp_path / "data", retention_rules=(rule,)), wall=wall) as node:
        host = Ticking(node, wall)
        push_image(node, "team/app", random_image(1), tag="1")
        wall.now += 900 * DAY
        host.run(STEADY_SECONDS / 2)
        wall.now -= 900 * DAY
        host.run(STEADY_SECONDS * 3)
        assert set(visible(node)) == {"team/app:1"}
        host.run(2 * DAY)
        assert visible(node) == {}
