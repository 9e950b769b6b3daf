"""What is pushed over HTTP is in containerd as what is dropped, and goes with its tag."""

from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.distribution import CONFIG, LAYER, Content, Registry
from support.images import random_image
from support.pushed import Repository, assert_gone, assert_served, push

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

HOST = "registry.test:5050"
ALGORITHMS = ("sha256", "sha512")
SECONDS = 20.0


def pushed_image(algorithm: str) -> Content:
    """An image whose blobs all have digests of this algorithm; its diff IDs are true."""
    image, content = random_image(algorithm, layers=2), Content(algorithm)
    layers = [content.blob(layer.raw, LAYER) for layer in image.layers]
    content.image(layers=layers, config=content.blob(image.config.raw, CONFIG))
    return content


def repository(agent: Agent, algorithm: str) -> Repository:
    return Repository(Registry(agent.registry), f"team/{algorithm}")


def states(agent: Agent, reference: str) -> list[str]:
    return [runtime["state"] for runtime in agent.images()[reference]["runtimes"]]


def test_a_pushed_image_of_any_algorithm_is_published_and_unpacked(
    tmp_path: Path, containerd: Containerd
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    environ, flags = {"AIRSIDE_REGISTRY_NAMES": HOST}, ["--runtime", str(containerd.socket)]
    with Agent(images, tmp_path / "data", environ=environ, flags=flags) as agent:
        agent.wait_for(lambda: agent.status()["runtimes"][0]["connected"], SECONDS)
        for algorithm in ALGORITHMS:
            here, content = repository(agent, algorithm), pushed_image(algorithm)
            push(here, content)
            [found] = content.documents
            assert here.put(found, found.digest, "v1").status == 201
            assert_served(here, found, "manifests/v1")

        for algorithm in ALGORITHMS:
            what = f"team/{algorithm}:v1"
            agent.wait_for(lambda what=what: states(agent, what) == ["published"], SECONDS)
            name = f"{HOST}/team/{algorithm}:v1"
            words = containerd.did("images", "check", f"name=={name}").split()
            assert "complete" in words
            assert words[-1] == "true"  # unpacked
            assert_gone(repository(agent, algorithm), "manifests/v1", "MANIFEST_UNKNOWN")
        agent.wait_for(lambda: HOST not in containerd.did("images", "ls", "-q"), SECONDS)
        assert agent.logged("error", "critical") == []
