"""An agent on a node whose containerd uses the snapshotter `erofs`."""

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from airside.containerd.client import Client
from airside.containerd.discovery import discover
from airside.containerd.services.snapshots import Mount
from support import erofs
from support.agent import Agent
from support.claims import work_leases
from support.command import airside
from support.containerd import Containerd
from support.containerd_config import Options
from support.images import TestImage, docker_archive, oci_archive, random_image, random_layer
from support.unpacking import LEASE, family, namespace_of

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

VERSION = "2.1"
"""The first with this snapshotter."""
NAMES = ["docker.io/airside/one:1", "docker.io/airside/two:1"]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Containerd]:
    """An empty containerd: what an agent leaves is counted."""
    if not erofs.is_in_kernel():
        pytest.skip("this kernel has no erofs, and none is loaded")
    options = Options(snapshotter="erofs")
    home = tmp_path / "containerd"
    with Containerd(VERSION, home, options=options, environ=erofs.environ()) as made:
        yield made


def agent_for(directory: Path, containerd: Containerd, **environ: str) -> Agent:
    (directory / "images").mkdir(exist_ok=True)
    flags = ["--runtime", str(containerd.socket)]
    variables = {**erofs.environ(), "AIRSIDE_RECONCILE_SECONDS": "3600", **environ}
    return Agent(directory / "images", directory / "data", environ=variables, flags=flags)


def wait_unpacked(agent: Agent, *names: str) -> None:
    def is_unpacked(name: str) -> bool:
        sides = agent.images().get(name, {}).get("runtimes") or [{}]
        return bool(sides[0].get("unpacked"))

    agent.wait_for(lambda: all(map(is_unpacked, names)), what=f"{names} are unpacked")


def layers_by(agent: Agent) -> dict[str, int]:
    """The layers unpacked, by who did."""
    [runtime] = agent.status()["runtimes"]
    return dict(runtime["layers"])


def images_of(compression: str = "none") -> dict[str, TestImage]:
    base = [random_layer(f"base/{n}", compression=compression) for n in range(2)]
    return {name: random_image(name, base=base, compression=compression) for name in NAMES}


def tars_of(images: dict[str, TestImage]) -> list[bytes]:
    raws = {layer.raw for image in images.values() for layer in image.layers}
    return sorted(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw for raw in raws)


def tars_in(containerd: Containerd) -> list[bytes]:
    """What lies behind the indexes of the layers."""
    found = []
    for path in erofs.layer_files(containerd):
        erofs.check(path)
        raw = path.read_bytes()
        slot = int.from_bytes(raw[1024 + 88 : 1024 + 90], "little") * 128
        found.append(raw[int.from_bytes(raw[slot + 68 : slot + 72], "little") * 512 :])
    return sorted(found)


def test_containerds_differ_unpacks_where_we_may_not(fresh: Containerd):
    images = family(2)
    with namespace_of(fresh, "applied") as node:
        assert discover(node.client).snapshotter == "erofs", "CRI's"
        taken = [node.take(image, f"docker.io/airside/e:{n}") for n, image in enumerate(images)]
        with node.unpacker(way="twins") as unpacker:
            found = unpacker.unpack_all(taken, lease=LEASE, stop=lambda: False)
            assert not [each for each in found if isinstance(each, Exception)]
        held = node.snapshots()
    assert len(erofs.layer_files(fresh)) == len(held) == 6, "a shared base, two of each image"


def test_a_container_runs_and_its_image_is_removed_by_containerd(fresh: Containerd, tmp_path: Path):
    with agent_for(tmp_path, fresh) as agent:
        write_sample(agent.watched / "sample.tar")
        wait_unpacked(agent, SAMPLE_NAME)
        assert layers_by(agent) == {"airside": 1}
        [layer] = erofs.layer_files(fresh)
        ran = fresh.run_container(SAMPLE_NAME, "hello")
        assert (ran.stdout.encode(), ran.returncode) == (MESSAGE, 0), ran.stderr
        [mount] = _view(fresh, "seen")
        assert (mount.type, mount.source) == ("erofs", str(layer))
    fresh.did("images", "rm", "--sync", *fresh.did("images", "ls", "-q").split())
    fresh.collect()
    assert not layer.exists()
    assert _committed(fresh) == []


def _view(containerd: Containerd, key: str) -> Sequence[Mount]:
    [name] = _committed(containerd)
    with Client.open(str(containerd.socket)) as client:
        return client.snapshots.view("erofs", key, name, "")


def _committed(containerd: Containerd) -> list[str]:
    with Client.open(str(containerd.socket)) as client:
        return list(client.snapshots.list_committed("erofs"))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_each_layer_is_its_tar_behind_an_index(fresh: Containerd, tmp_path: Path, compression: str):
    images = images_of(compression)
    with agent_for(tmp_path, fresh) as agent:
        oci_archive(agent.watched / "set.tar", images)
        wait_unpacked(agent, *NAMES)
        assert layers_by(agent) == {"airside": 6}
    found, expected = tars_in(fresh), tars_of(images)
    assert [len(tar) for tar in found] == [len(tar) for tar in expected]
    assert found == expected


def test_ctr_finds_our_snapshots_unpacked(fresh: Containerd, tmp_path: Path):
    docker_archive(tmp_path / "set.tar", images_of())
    with agent_for(tmp_path, fresh) as agent:
        os.link(tmp_path / "set.tar", agent.watched / "set.tar")
        wait_unpacked(agent, *NAMES)
    before = {path: path.stat().st_mtime_ns for path in erofs.layer_files(fresh)}
    fresh.did("images", "import", *fresh.local, "--snapshotter", "erofs", tmp_path / "set.tar")
    assert {path: path.stat().st_mtime_ns for path in erofs.layer_files(fresh)} == before


@pytest.mark.parametrize(
    "fault",
    ["unpack.after_prepare=kill@2", "unpack.after_apply=kill", "unpack.after_commit=kill@3"],
)
def test_a_killed_agent_ends_as_an_undisturbed_one(fresh: Containerd, tmp_path: Path, fault: str):
    images = images_of()
    agent = agent_for(tmp_path, fresh)
    docker_archive(agent.images_paths[0] / "set.tar", images)
    agent.fault = fault
    agent.launch()
    assert agent.wait_exit() == -9
    agent.fault = None
    with agent:
        wait_unpacked(agent, *NAMES)
        fresh.collect()
        assert tars_in(fresh) == tars_of(images)
        with Client.open(str(fresh.socket)) as client:
            assert list(client.snapshots.list_active("erofs")) == []
            assert work_leases(client) == []


def test_the_doctor_tells_who_writes_the_layers(fresh: Containerd, tmp_path: Path):
    with agent_for(tmp_path, fresh) as agent:
        found = doctor(agent, fresh, **erofs.environ())
        assert found["severity"] == "ok"
        assert "mkfs.erofs" in found["found"]


def doctor(agent: Agent, containerd: Containerd, **environ: str) -> dict[str, str]:
    words = ("--data", agent.data, "--runtime", containerd.socket)
    done = airside("doctor", "--json", *words, AIRSIDE_MIN_FREE_BYTES="0", **environ)
    [found] = [i for i in json.loads(done.stdout)["items"] if i["id"] == "containerd.erofs"]
    return dict(found)
