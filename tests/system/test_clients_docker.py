"""Docker pushes to the registry and pulls from it, with its older store and with containerd's.

docs/clients.md has the table of all clients.
"""

import json
import os

import pytest

from support import debian
from support.agent import Agent
from support.docker import Docker, docker
from support.images import docker_archive, random_image
from support.tools import Tools, digests_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd needs root"),
]

KINDS = {"bookworm": False, "trixie": False, "forky": True}
"""The Debian release, and whether it keeps images in a containerd of its own."""


@pytest.mark.parametrize("suite", KINDS)
def test_docker_pushes_mounts_lists_and_pulls(
    shared_agent: Agent, tools: Tools, suite: str
) -> None:
    packages = ["docker.io", *(["docker-cli", "docker-buildx"] if suite != "bookworm" else [])]
    roots = [debian.unpacked(suite, package) for package in packages]
    with docker(*roots, containerd_store=KINDS[suite]) as daemon:
        push_and_pull(shared_agent, tools, daemon, suite)


def push_and_pull(agent: Agent, tools: Tools, daemon: Docker, suite: str) -> None:
    registry, source = agent.registry, f"docker-{suite}:1"
    archive = tools.directory / "app.tar"
    docker_archive(archive, {source: random_image(suite, media="docker")})
    daemon("load", "-i", archive)
    first, second = (f"{registry}/docker-{suite}/{name}:1" for name in ("app", "other"))
    for target in (first, second):
        daemon("tag", source, target)
        told = daemon("push", target)
        digest = agent.images()[target.partition("/")[2]]["digest"]
        assert f"digest: {digest}" in told
    assert "Mounted from" in told
    both = f"{registry}/docker-{suite}/both:1"
    daemon("manifest", "create", "--insecure", both, first)
    daemon("manifest", "annotate", both, first, "--arch", "amd64")
    daemon("manifest", "push", "--insecure", both)
    _status, raw = agent.get(f"/v2/docker-{suite}/both/manifests/1")
    assert digests_in(raw.decode()) == [agent.images()[f"docker-{suite}/app:1"]["digest"]]
    if suite != "bookworm":
        daemon.buildx("imagetools", "create", "-t", f"{registry}/docker-{suite}/tool:1", first)
        seen = daemon.buildx("imagetools", "inspect", "--raw", f"{registry}/docker-{suite}/tool:1")
        assert json.loads(seen)["schemaVersion"] == 2
    daemon("rmi", first, second, source)
    for target in (first, both):
        assert "Digest: sha256:" in daemon("pull", target)
