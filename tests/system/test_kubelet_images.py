"""A node with kubelet's image manager, in random steps, on a containerd without pins and with them.

A seed of `NODE_SEEDS=FROM-TO` gives the same steps each time:

    NODE_SEEDS=100-120 pytest tests/system/test_kubelet_images.py
"""

import os
from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.kubelet import Kubelet
from support.node_life import NodeLife
from support.size import sized

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

STEPS = sized(30, 300)


def seeds() -> range:
    first, _, last = os.environ.get("NODE_SEEDS", "").partition("-")
    return range(int(first), int(last or first) + 1) if first else range(1, sized(2, 10))


@pytest.mark.parametrize("containerd_version", ["1.6", "2.1"], indirect=True)
@pytest.mark.parametrize("seed", seeds())
def test_pods_start_and_states_are_true_whatever_kubelet_removes(
    containerd_version: str, seed: int, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    with (
        Containerd(containerd_version, tmp_path / "c") as containerd,
        Kubelet(containerd) as kubelet,
    ):
        flags = ["--runtime", str(containerd.socket)]
        with Agent(tmp_path / "images", tmp_path / "data", flags=flags) as agent:
            life = NodeLife(seed, containerd, agent, kubelet, tmp_path)
            life.begin()
            life.live(STEPS)
