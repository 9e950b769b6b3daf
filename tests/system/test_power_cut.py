"""The power goes between the name of an image and the sync of its snapshots (ADR 0021)."""

import json
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.containerd.client import Client
from support.agent import Agent
from support.claims import work_leases
from support.containerd import Containerd
from support.images import docker_archive, random_image

pytestmark = [pytest.mark.system, pytest.mark.needs("containerd", "ctr", "unshare", "mount")]

NAME = "docker.io/library/app:1"
POD = "a-container"


def files_of(containerd: Containerd) -> Counter[bytes]:
    """What the files of all layers hold, the container's own left out: it wrote none."""
    return Counter(path.read_bytes() for path in _paths(containerd))


def halve(containerd: Containerd) -> None:
    """As file systems leave what was not synced: the names are there, the bytes are not."""
    for path in _paths(containerd):
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW))


def _paths(containerd: Containerd) -> Iterator[Path]:
    """Only regular files: a link in an image may point at one of the host."""
    plugin = f"io.containerd.snapshotter.v1.{containerd.options.snapshotter}"
    for directory, _, names in os.walk(containerd.root / plugin / "snapshots"):
        for path in (Path(directory, name) for name in names):
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def record(data: Path) -> dict[str, str]:
    with sqlite3.connect(data / "catalog.db") as db:
        [[text]] = db.execute("SELECT value FROM meta WHERE key LIKE 'unsynced:%'")
    db.close()
    return dict(json.loads(text))


def say_another_boot(data: Path) -> None:
    text = json.dumps(dict.fromkeys(record(data), "another boot"))
    with sqlite3.connect(data / "catalog.db") as db:
        db.execute("UPDATE meta SET value = ? WHERE key LIKE 'unsynced:%'", (text,))
    db.close()


@pytest.mark.parametrize("in_use", [False, True], ids=["free", "in-use"])
def test_what_was_half_written_is_whole_again(
    tmp_path: Path, containerd_version: str, *, in_use: bool
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    image = random_image(1, layers=3)
    docker_archive(images / "app.tar", {NAME: image})
    with (
        Containerd(containerd_version, tmp_path / "containerd") as made,
        Client.open(str(made.socket)) as client,
    ):
        flags = ["--runtime", str(made.socket)]
        agent = Agent(images, tmp_path / "data", flags=flags)
        agent.fault = "publish.after_names=kill"
        agent.launch()
        assert agent.wait_exit() == -9
        agent.fault = None
        assert client.images.get(NAME) is not None
        chains = record(agent.data)
        assert len(chains) == 3
        snapshotter = str(made.options.snapshotter)
        assert set(chains) == set(client.snapshots.list_committed(snapshotter))
        made.collect()
        whole = files_of(made)
        assert whole
        if in_use:
            [top] = _tops(made, client, chains)
            client.snapshots.prepare(snapshotter, POD, top, {"containerd.io/gc.root": "x"}, "")
        halve(made)
        assert files_of(made) != whole
        say_another_boot(agent.data)
        with agent:
            agent.wait_for(
                lambda: (
                    agent.images()[NAME]["runtimes"] and agent.images()[NAME]["runtimes"][0]["at"]
                ),
            )
            [side] = agent.images()[NAME]["runtimes"]
            if in_use and snapshotter != "overlayfs":
                assert side["state"] == "failed"
                return
            assert side["state"] == "published"
            assert side["unpacked"]
            made.collect()  # what was removed: of suspects, and of the proof
            assert files_of(made) == whole
            assert record(agent.data) == {}
            assert work_leases(client) == []
            kept = {POD} if in_use else set()
            assert set(client.snapshots.list_active(snapshotter)) == kept
            assert set(client.snapshots.list_committed(snapshotter)) == set(chains)
            assert len(list(_views(made))) == 0


def _tops(made: Containerd, client: Client, chains: dict[str, str]) -> list[str]:
    """The snapshots that no other stands on."""
    snapshotter = str(made.options.snapshotter)
    told = [
        json.loads(made.did("snapshots", "--snapshotter", snapshotter, "info", chain))
        for chain in chains
    ]
    below = {each.get("Parent") for each in told}
    return [key for key in client.snapshots.list_committed(snapshotter) if key not in below]


def _views(made: Containerd) -> list[str]:
    snapshotter = str(made.options.snapshotter)
    rows = made.did("snapshots", "--snapshotter", snapshotter, "ls").splitlines()[1:]
    return [row for row in rows if row.rstrip().endswith("View")]


def test_what_a_kill_left_unsynced_is_synced_at_the_next_start(tmp_path: Path) -> None:
    """In the same boot nothing is damaged: what a container uses stays as it is."""
    images = tmp_path / "images"
    images.mkdir()
    docker_archive(images / "app.tar", {NAME: random_image(2)})
    with (
        Containerd(None, tmp_path / "containerd") as made,
        Client.open(str(made.socket)) as client,
    ):
        agent = Agent(images, tmp_path / "data", flags=["--runtime", str(made.socket)])
        agent.fault = "publish.after_names=kill"
        agent.launch()
        assert agent.wait_exit() == -9
        agent.fault = None
        assert record(agent.data)
        (images / "app.tar").unlink()
        with agent:
            agent.wait_for(lambda: not record(agent.data), what="synced")
            agent.wait_for(lambda: not work_leases(client), what="nothing holds it")
