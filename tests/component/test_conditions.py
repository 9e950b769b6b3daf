"""Conditions that begin and end are events."""

import asyncio
import json

import pytest

from airside.agent.conditions import Conditions
from airside.store.gc import Space
from airside.telemetry.health import AWAY_SECONDS


class Runtimes:
    """A supervisor of runtimes that says what it is told."""

    def __init__(self) -> None:
        self.state: dict[str, float | None] = {}

    def away(self) -> list[tuple[str, float | None]]:
        return list(self.state.items())


def events(node) -> list[tuple[str, object]]:
    return [(row.kind, json.loads(row.detail)) for row in node.catalog.event_log.after(0, 100)]


@pytest.fixture
def runtimes():
    return Runtimes()


def test_a_runtime_that_is_away_for_long_is_told_once_and_its_return_too(node, runtimes):
    async def look() -> None:
        conditions = Conditions(node, runtimes)
        for away in (float("inf"), None, 5.0, AWAY_SECONDS + 1, AWAY_SECONDS + 9, None, None):
            runtimes.state["/run/c.sock"] = away
            await conditions._look_at_runtimes()

    asyncio.run(look())
    assert events(node) == [
        ("runtime-away", {"runtime": "/run/c.sock", "seconds": "31"}),
        ("runtime-back", {"runtime": "/run/c.sock"}),
    ]


def test_low_space_is_told_once_and_its_end_too(node, runtimes, monkeypatch):
    free = iter([1000, 10, 20, 900, 800])
    monkeypatch.setattr("airside.telemetry.bounded_reader.FRESH_SECONDS", 0.0)

    async def look() -> None:
        conditions = Conditions(node, runtimes)
        for _ in range(5):
            await conditions._look_at_space()

    with monkeypatch.context() as patch:
        patch.setattr(
            type(node.garbage), "space", lambda _self: Space(next(free), 50, 50, total_bytes=1000)
        )
        asyncio.run(look())
    assert [kind for kind, _ in events(node)] == ["low-space", "space-back"]
