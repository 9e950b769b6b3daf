"""An agent per test, or one for a module whose tests only add archives."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """A running agent; `agent.watched` is its one directory."""
    yield from _running(tmp_path)


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One agent for all tests of a module."""
    yield from _running(tmp_path_factory.mktemp("agent"))


def _running(directory: Path) -> Iterator[Agent]:
    (directory / "images").mkdir()
    with Agent(directory / "images", directory / "data") as agent:
        yield agent
