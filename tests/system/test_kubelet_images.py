"""A node with kubelet's image manager, in random steps, on a containerd without pins and with them.

A seed of `NODE_SEEDS=FROM-TO` gives the same steps each time:

    NODE_SEEDS=100-120 pytest tests/system/test_kubelet_images.py
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.kubelet import Kubelet
from support.node_archives import NodeImage
from support.node_life import NAMES, NodeLife
from support.node_truth import waiting
from support.size import sized

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

STEPS = sized(20, 150)


def seeds() -> range:
    first, _, last = os.environ.get("NODE_SEEDS", "").partition("-")
    return range(int(first), int(last or first) + 1) if first else range(1, sized(2, 13))


@pytest.fixture
def life(containerd_version: str, seed: int, tmp_path: Path) -> Iterator[NodeLife]:
    (tmp_path / "images").mkdir()
    with (
        Containerd(containerd_version, tmp_path / "c") as containerd,
        Kubelet(containerd) as kubelet,
    ):
        flags = ["--runtime", str(containerd.socket)]
        with Agent(tmp_path / "images", tmp_path / "data", flags=flags) as agent:
            made = NodeLife(seed, containerd, agent, kubelet, tmp_path)
            made.begin()
            yield made


@pytest.mark.parametrize("containerd_version", ["1.6", "2.1"], indirect=True)
@pytest.mark.parametrize("seed", seeds())
def test_pods_start_and_states_are_true_whatever_kubelet_removes(life: NodeLife) -> None:
    life.live(STEPS)


@pytest.mark.parametrize("containerd_version", ["1.6"], indirect=True)
@pytest.mark.parametrize("seed", [1])
def test_a_container_restarts_from_a_newer_image_that_kubelet_removed_again_and_again(
    life: NodeLife,
) -> None:
    """Nothing in containerd says that its pod wants that image: the end of the container does."""
    life.start(NAMES[0], "Never")
    life.restart_agent()  # which has seen no pod begin, then
    life.drop("0-a.tar", NodeImage(NAMES[0], "newer"))
    life.judge()
    while NAMES[0] not in waiting(life.agent.status()):
        life.pass_time(300)
        life.delete_unused()
        life.judge()
    life.restart_container()
    life.judge()
