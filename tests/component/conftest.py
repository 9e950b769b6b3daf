from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.agent.node import Node
from airside.importer.watch import watcher as watch
from support.nodes import node_at
from support.publishing import Bench


@pytest.fixture
def nothing_left_open(monkeypatch):
    """A watcher leaves no descriptor; and an absent directory is looked for often."""
    monkeypatch.setattr(watch, "ABSENT_SECONDS", 0.05)
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert set(Path("/proc/self/fd").iterdir()) <= before


@pytest.fixture
def images(tmp_path):
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with the usual settings and an empty data directory."""
    with node_at(tmp_path / "data") as made:
        yield made


@pytest.fixture
def bench(node: Node, tmp_path: Path) -> Bench:
    """The publisher of this node, and a container runtime in memory."""
    return Bench(node, tmp_path)
