"""`min_free_bytes` on the file system of containerd, whatever its unpacking would write."""

import os

import pytest

from support import bombs
from support.agent import Agent
from support.containerd import Containerd
from support.disks import LeastFree, free_bytes, small_disk
from support.images import image_of, oci_archive, random_image
from support.size import sized

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
    pytest.mark.needs("mount", "umount", "mkfs.ext4"),
]
MIB = 1 << 20
DISK = sized(96, 300) * MIB
LEAST = sized(32, 64) * MIB

BOMBS = {
    "zeros": lambda: bombs.zeros(DISK),
    "sparse": lambda: bombs.sparse(4 * DISK),
    "old-sparse": lambda: bombs.sparse(4 * DISK, old=True),
    "inodes": lambda: bombs.entries(DISK // 3800, directories=False, size_bytes=0),
    "directories": lambda: bombs.entries(DISK // 4096, directories=True),
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with small_disk(tmp_path_factory.mktemp("space") / "disk", DISK) as found:
        yield found


@pytest.fixture(scope="module")
def containerd(disk, newest_containerd):
    with Containerd(newest_containerd, disk / "containerd") as made:
        yield made


PLACES = ("linked", "copied")
CASES = sized(
    [(PLACES[number % 2], kind) for number, kind in enumerate(BOMBS)],
    [(place, kind) for place in PLACES for kind in BOMBS],
)
"""Where the data are takes turns."""


@pytest.fixture(scope="module", params=PLACES)
def agent(request, disk, containerd, tmp_path_factory):
    """Its data on containerd's file system, or on another one: then blobs are copied."""
    home = tmp_path_factory.mktemp("agent")
    data = disk / "data" if request.param == "linked" else home / "data"
    environ = {
        "AIRSIDE_MIN_FREE_BYTES": str(LEAST),
        "AIRSIDE_LOW_SPACE_BYTES": "1MiB",
        "AIRSIDE_RECONCILE_SECONDS": "2",
    }
    flags = ["--runtime", str(containerd.socket)]
    with (
        LeastFree(disk) as least,
        Agent(home / "images", data, environ=environ, flags=flags) as agent,
    ):
        agent.watched.mkdir(exist_ok=True)
        yield agent
    assert least.looks
    assert least.least_bytes >= LEAST


def dropped(agent, name, layers):
    archive = agent.watched / f"{name}.tar"
    reference = f"example.com/{name}:1"
    oci_archive(archive.with_suffix(".part"), {reference: image_of(layers, label=name)})
    archive.with_suffix(".part").rename(archive)
    agent.wait_imported(archive)
    return reference


def publication(agent, reference):
    found = agent.images()[reference]["runtimes"]
    return found[0] if found else {"state": "", "reason": ""}


@pytest.mark.parametrize(("agent", "kind"), CASES, indirect=["agent"])
def test_a_layer_that_does_not_fit_is_not_unpacked_and_others_are(agent, disk, kind):
    before = free_bytes(disk)
    bomb = dropped(agent, f"bomb-{kind}", [BOMBS[kind]()])
    agent.wait_for(lambda: publication(agent, bomb)["state"] == "failed", what="it is refused")
    assert "free" in publication(agent, bomb)["reason"]
    agent.wait_for(lambda: free_bytes(disk) > before - 8 * MIB, what="its bytes are freed")
    good = dropped(agent, f"good-{kind}", random_image(kind, layers=2).layers)
    agent.wait_for(lambda: publication(agent, good)["state"] == "published")
