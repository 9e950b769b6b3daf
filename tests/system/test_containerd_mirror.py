"""containerd with only our `hosts.toml` pulls through the registry, and runs what it pulled."""

import os

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from support.agent import Agent
from support.containerd import Containerd

pytestmark = [
    pytest.mark.system,
    pytest.mark.needs("containerd", "ctr", "runc"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root"),
]


@pytest.fixture
def mirrored(tmp_path):
    """An agent with the sample dropped, and a directory of hosts.toml files that points at it."""
    images = tmp_path / "images"
    images.mkdir()
    with Agent(images, tmp_path / "data") as agent:
        archive = images / "hello.tar.zst"
        write_sample(archive)
        agent.wait_imported(archive)
        hosts = tmp_path / "certs.d" / "docker.io"
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(
            f'[host."http://{agent.registry}"]\n  capabilities = ["pull", "resolve"]\n'
        )
        yield agent, hosts.parent


def test_container_runs_from_a_dropped_archive(mirrored):
    agent, hosts = mirrored
    with Containerd() as containerd:
        flags = ("--hosts-dir", hosts, "--snapshotter", containerd.options.snapshotter)
        containerd.did("images", "pull", *flags, SAMPLE_NAME)
        assert agent.images()[SAMPLE_NAME]["digest"] in containerd.did("images", "ls")
        ran = containerd.run_container(SAMPLE_NAME, "hello")
        assert ran.stdout.encode() == MESSAGE, ran.stderr


def test_mirror_says_at_once_that_it_lacks_an_image(mirrored):
    agent, _hosts = mirrored
    status, _body = agent.get("/v2/library/nothere/manifests/1?ns=docker.io")
    assert status == 404
