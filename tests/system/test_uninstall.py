"""`airside uninstall` with a real containerd: what it withdraws, and what it leaves to pods."""

import json
import tempfile
from pathlib import Path

import pytest

from airside.core.host_root import HOST_ROOT
from support.agent import Agent
from support.command import airside
from support.images import docker_archive, random_image
from support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("unshare", "mount")]

USED, FREE = "docker.io/library/used:1", "docker.io/library/free:1"


def labels_of(containerd, name):
    lines = containerd.did("images", "ls", f"name=={name}").splitlines()[1:]
    return lines[0].split()[-1] if lines else ""


def names_in(containerd):
    return set(containerd.did("images", "ls", "-q").split())


@pytest.fixture
def root():
    """A short path: that of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="host-") as directory:
        yield Path(directory)


def test_all_goes_but_what_a_container_uses_which_loses_labels_and_pin(root, containerd):
    images, data = root / "var/lib/airside/images", root / "var/lib/airside/data"
    images.mkdir(parents=True)
    (root / "etc/airside").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "run/containerd.sock").symlink_to(containerd.socket)
    (root / "etc/airside/airside.toml").write_text('runtime = ["/run/containerd.sock"]\n')
    for name in (USED, FREE):
        docker_archive(images / f"{name[-6]}.tar", {name: random_image(name)})
    with Agent(images, data, flags=["--runtime", str(containerd.socket)]):
        wait_until(lambda: {USED, FREE} <= names_in(containerd), containerd.log)
        wait_until(lambda: "airside.agent" in labels_of(containerd, USED), containerd.log)
        refused = airside("uninstall", "--root", root, "--json")
        assert json.loads(refused.stdout)["error"]["code"] == "conflict"
    containerd.did("containers", "create", *snapshotter(containerd), USED, "pod")
    done = airside("uninstall", "--root", root, "--json", "--purge", **{HOST_ROOT: str(root)})
    assert done.returncode == 0, done.stdout
    items = [i for i in json.loads(done.stdout)["items"] if i["action"] == "name"]
    states = {item["name"]: item["state"] for item in items}
    assert (states[USED], states[FREE]) == ("used", "withdrawn")
    left = names_in(containerd)
    assert USED in left
    assert not [name for name in left if "free" in name]
    assert "airside" not in labels_of(containerd, USED)
    assert "pinned" not in labels_of(containerd, USED)
    assert not data.exists()
    assert not images.exists()
    assert "airside" not in containerd.did("leases", "ls")
    assert containerd.ctr("images", "check", f"name=={USED}").stdout.count("complete") == 1


def snapshotter(containerd):
    return ("--snapshotter", containerd.options.snapshotter)
