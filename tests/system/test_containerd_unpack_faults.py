"""Death of us and of containerd at each step of an unpack: it ends as an undisturbed one."""

import itertools
from pathlib import Path

import pytest

from airside.containerd import unpack
from airside.containerd import unpack_layer as layering
from airside.core import failpoints as faults
from airside.core.errors import ContainerdError, StoreError
from support.containerd import Containerd, by_turns
from support.size import sized
from support.unpacking import LEASE, Namespace, family, namespace_of, until_connected
from support.warm import run_until_killed

pytestmark = pytest.mark.system

TESTS = Path(__file__).parents[1]
POINTS = tuple(point for point in faults.PUBLISHING if point.startswith("unpack."))
PASSES = [(point, n) for point in POINTS for n in (1, 4) if (point, n) != ("unpack.after_sync", 4)]
"""A call passes that one once."""
NAMES = (f"fault-{number}" for number in itertools.count())
COUNT = sized(2, 3)


def taken(node: Namespace) -> list[unpack.Rootfs]:
    return [
        node.take(image, f"docker.io/airside/fault:{number}")
        for number, image in enumerate(family(COUNT))
    ]


@pytest.fixture(scope="module")
def undisturbed(shared_containerd: Containerd) -> tuple[object, ...]:
    with namespace_of(shared_containerd, next(NAMES)) as node:
        return node.finished(taken(node))


@pytest.mark.parametrize(
    ("containerd_version", "point", "number"), by_turns(PASSES), indirect=["containerd_version"]
)
def test_we_are_killed(shared_containerd: Containerd, undisturbed, point: str, number: int):
    if point == "unpack.after_sync":
        number = 1
    with namespace_of(shared_containerd, next(NAMES)) as node:
        images = taken(node)
        places = (node.containerd.socket, node.containerd.content_root)
        where = (*places, node.snapshotter, node.name, COUNT)
        run_until_killed("support.unpack_family", *where, fault=f"{point}=kill@{number}")
        assert node.finished(images) == undisturbed


@pytest.mark.parametrize(
    ("containerd_version", "point"),
    by_turns((point,) for point in POINTS),
    indirect=["containerd_version"],
)
def test_containerd_is_killed(
    shared_containerd: Containerd, undisturbed, point: str, monkeypatch: pytest.MonkeyPatch
):
    def kill(passed: str) -> None:
        if passed == point and not killed:
            killed.append(passed)
            shared_containerd.kill()

    killed: list[str] = []
    with namespace_of(shared_containerd, next(NAMES)) as node:
        images = taken(node)
        with monkeypatch.context() as patch, node.unpacker() as unpacker:
            patch.setattr(layering, "fault", kill)
            patch.setattr(unpack, "fault", kill)
            found = unpacker.unpack_all(images, lease=LEASE, stop=lambda: False)
        assert killed == [point]
        assert ContainerdError in {type(each) for each in found}
        shared_containerd.start()
        until_connected(node.client)
        assert node.finished(images) == undisturbed


@pytest.mark.parametrize(
    ("containerd_version", "point"),
    by_turns((point,) for point in POINTS),
    indirect=["containerd_version"],
)
def test_an_error_at_a_step_leaves_nothing_prepared(
    shared_containerd: Containerd, undisturbed, point: str
):
    with namespace_of(shared_containerd, next(NAMES)) as node:
        images = taken(node)
        faults.arm(f"{point}=error")
        try:
            with node.unpacker() as unpacker:
                found = unpacker.unpack_all(images, lease=LEASE, stop=lambda: False)
        finally:
            faults.arm(None)
        assert StoreError in {type(each) for each in found}
        assert node.client.snapshots.list_active(node.snapshotter) == []
        assert node.finished(images) == undisturbed
