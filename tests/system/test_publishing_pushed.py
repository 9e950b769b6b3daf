"""What is pushed over HTTP is in containerd as what is dropped, and goes with its tag."""

from pathlib import Path

import pytest

from support.agent import Agent
from support.containerd import Containerd
from support.distribution import CONFIG, LAYER, Content, Registry
from support.images import oci_archive, random_image
from support.pushed import Repository, assert_gone, assert_served, push

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

HOST = "registry.test:5050"
ALGORITHMS = ("sha256", "sha512")


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
        agent.wait_for(lambda: agent.status()["runtimes"][0]["connected"])
        for algorithm in ALGORITHMS:
            here, content = repository(agent, algorithm), pushed_image(algorithm)
            push(here, content)
            [found] = content.documents
            assert here.put(found, found.digest, "v1").status == 201
            assert_served(here, found, "manifests/v1")

        for algorithm in ALGORITHMS:
            what = f"team/{algorithm}:v1"
            agent.wait_for(lambda what=what: states(agent, what) == ["published"])
            name = f"{HOST}/team/{algorithm}:v1"
            words = containerd.did("images", "check", f"name=={name}").split()
            assert "complete" in words
            assert words[-1] == "true"  # unpacked
            here, [found] = repository(agent, algorithm), pushed_image(algorithm).documents
            assert_gone(here, "manifests/v1", "MANIFEST_UNKNOWN")
            by_digest = f"{HOST}/team/{algorithm}@{found.digest}"  # it was pushed by digest too
            assert by_digest in containerd.did("images", "ls", "-q").split()
            assert_gone(here, f"manifests/{found.digest}", "MANIFEST_UNKNOWN")
        agent.wait_for(lambda: HOST not in containerd.did("images", "ls", "-q"))
        assert agent.logged("error", "critical") == []


def test_a_push_may_refer_to_what_only_containerd_holds(
    tmp_path: Path, containerd: Containerd
) -> None:
    """The client was told that the blobs are here, and sends the manifest alone (ADR 0023)."""
    image, archive = random_image("base", layers=2), tmp_path / "base.tar"
    oci_archive(archive, {"docker.io/team/app:base": image})
    containerd.did("images", "import", *containerd.local, "--no-unpack", archive)
    images = tmp_path / "images"
    images.mkdir()
    environ, flags = {"AIRSIDE_READ_THROUGH": "true"}, ["--runtime", str(containerd.socket)]
    with Agent(images, tmp_path / "data", environ=environ, flags=flags) as agent:
        agent.wait_for(lambda: agent.status()["runtimes"][0]["connected"])
        for digest in (image.config.digest, *(layer.digest for layer in image.layers)):
            assert agent.get(f"/v2/team/app/blobs/{digest}", method="HEAD")[0] == 200
            assert not (tmp_path / "data/oci/blobs/sha256" / digest.hex).exists()

        raw = image.manifest.raw
        kind = ("Content-Type", image.manifest.media_type)
        here = Registry(agent.registry)
        reply = here.ask("PUT", "/v2/team/app/manifests/2", raw, kind)
        assert reply.status == 201, reply
        for blob in (image.config, *image.layers):
            held = tmp_path / "data/oci/blobs/sha256" / blob.digest.hex
            assert held.read_bytes() == blob.raw
        assert str(image.digest) == agent.images()["team/app:2"]["digest"]

        containerd.did("images", "rm", "docker.io/team/app:base")
        assert agent.get("/v2/team/app/manifests/2") == (200, raw)
        for layer in image.layers:
            assert agent.get(f"/v2/team/app/blobs/{layer.digest}") == (200, layer.raw)
