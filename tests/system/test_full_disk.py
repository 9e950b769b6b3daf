"""A full disk: what is there is served, also after a restart; imports wait and then go on."""

import os
import subprocess

import pytest

from support.agent import Agent
from support.images import docker_archive, random_image

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
    pytest.mark.needs("mount", "umount"),
]
SPACE = 24 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB, with the data directory's place on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk):
    """Take every byte that is left."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_images_are_served_with_a_full_disk_and_imports_wait_for_space(tmp_path, small_disk):
    images = tmp_path / "images"
    images.mkdir()
    first, second = images / "a.tar", images / "b.tar"
    docker_archive(first, {"example.com/a:1": random_image(1)})
    environ = {"AIRSIDE_MIN_FREE_BYTES": "0", "AIRSIDE_RETRY_SECONDS": "1"}
    with Agent(images, small_disk / "data", environ=environ) as agent:
        agent.wait_imported(first)
        fill(small_disk)
        docker_archive(second, {"example.com/b:1": random_image(2, layer_bytes=6_000_000)})
        agent.wait_for(lambda: "No space" in agent.log or "full" in agent.log)
        assert agent.get("/v2/example.com/a/manifests/1")[0] == 200
        agent.kill()
        fill(small_disk)
        agent.start()
        assert agent.get("/v2/example.com/a/manifests/1")[0] == 200
        assert agent.get("/v2/example.com/b/manifests/1")[0] == 404
        (small_disk / "filler").unlink()
        agent.wait_imported(second)
        assert agent.get("/v2/example.com/b/manifests/1")[0] == 200


def test_what_happens_on_a_full_disk_is_recorded_all_the_same(tmp_path, small_disk):
    """Out of the reserve: new archives with the reason why they wait, removals, a clean stop."""
    images = tmp_path / "images"
    images.mkdir()
    first, second = images / "a.tar", images / "b.tar"
    docker_archive(first, {"example.com/a:1": random_image(1)})
    environ = {"AIRSIDE_MIN_FREE_BYTES": "0", "AIRSIDE_RETRY_SECONDS": "1"}
    with Agent(images, small_disk / "data", environ=environ) as agent:
        agent.wait_imported(first)
        fill(small_disk)
        docker_archive(second, {"example.com/b:1": random_image(2, layer_bytes=6_000_000)})
        reason = agent.wait_state(second, "failed")["reason"]
        assert "more bytes free" in reason or "No space left" in reason
        first.unlink()
        agent.wait_state(first, "removed")
        fill(small_disk)
        agent.stop()
        agent.start()
        assert agent.get("/v2/example.com/a/manifests/1")[0] == 200
        (small_disk / "filler").unlink()
        agent.wait_imported(second)
