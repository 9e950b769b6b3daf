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
    first, second, kept = images / "a.tar", images / "b.tar", images / "kept.tar"
    docker_archive(first, {"example.com/a:1": random_image(1)})
    docker_archive(kept, {"example.com/kept:1": random_image(3)})
    environ = {"AIRSIDE_MIN_FREE_BYTES": "0", "AIRSIDE_RETRY_SECONDS": "1"}
    with Agent(images, small_disk / "data", environ=environ) as agent:
        agent.wait_imported(first)
        agent.wait_imported(kept)
        fill(small_disk)
        docker_archive(second, {"example.com/b:1": random_image(2, layer_bytes=6_000_000)})
        reason = agent.wait_state(second, "failed")["reason"]
        assert "more bytes free" in reason or "No space left" in reason
        first.unlink()
        agent.wait_state(first, "removed")
        fill(small_disk)
        agent.stop()
        agent.start()
        assert agent.get("/v2/example.com/kept/manifests/1")[0] == 200
        (small_disk / "filler").unlink()
        agent.wait_imported(second)


def test_room_is_made_before_an_import_fails(tmp_path, small_disk):
    """Earlier versions and images without an archive go; what an archive brings stays."""
    images = tmp_path / "images"
    images.mkdir()
    app, other = images / "app.tar", images / "other.tar"
    environ = {
        "AIRSIDE_MIN_FREE_BYTES": "2MiB",
        "AIRSIDE_LOW_SPACE_BYTES": "1MiB",
        "AIRSIDE_RETENTION": "9",
    }
    with Agent(images, small_disk / "data", environ=environ) as agent:
        docker_archive(other, {"example.com/other:1": random_image("o", layer_bytes=2_000_000)})
        agent.wait_imported(other)
        other.unlink()
        agent.wait_state(other, "removed")
        for number, size in enumerate([3_000_000] * 4 + [5_000_000]):  # of 24 MiB
            made = tmp_path / "made.tar"
            docker_archive(made, {"example.com/app:1": random_image(number, layer_bytes=size)})
            made.rename(app)
            agent.wait_for(lambda count=number + 2: agent.log.count("imported exam") == count)
            served = agent.get("/v2/example.com/other/manifests/1")[0]
            assert served == (200 if size == 3_000_000 else 404)
            assert agent.get("/v2/example.com/app/manifests/1")[0] == 200
        assert "it is retried" not in agent.log
        assert agent.status()["space"]["low_space_bytes"] == 1 << 20
