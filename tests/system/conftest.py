"""An agent per test, or one for a module whose tests only add archives; so for containerd.

And a judge of damage.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.damage import Judge
from support.tools import Tools


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


@pytest.fixture
def containerd(containerd_version: str, tmp_path: Path) -> Iterator[Containerd]:
    """An empty containerd of each version, on the file system of `tmp_path`."""
    with Containerd(containerd_version, tmp_path / "containerd") as made:
        yield made


@pytest.fixture(scope="module")
def shared_containerd(
    containerd_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containerd]:
    """One of each version for all tests of a module."""
    with Containerd(containerd_version, tmp_path_factory.mktemp("containerd")) as made:
        yield made


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory that costs no disk: nothing that uses it depends on one."""
    home = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="airside-damage-", dir=home) as directory:
        yield Path(directory)


@pytest.fixture
def judge(memory_path: Path) -> Iterator[Judge]:
    """What an import would make of damaged archives."""
    made = Judge(memory_path)
    yield made
    assert not list(made.ingest.iterdir())


@pytest.fixture
def tools() -> Iterator[Tools]:
    """Clients of registries, with a home: in /tmp, as podman takes short paths only."""
    made = tempfile.TemporaryDirectory(
        prefix="airside-tools-", dir="/tmp", ignore_cleanup_errors=True
    )
    with made as directory:
        yield Tools(Path(directory))


@pytest.fixture(params=["trixie", "forky"])
def suite(request: pytest.FixtureRequest) -> str:
    """Debian releases whose clients are tried."""
    return str(request.param)
