"""Death of us and of containerd at each step of an unpack: it ends as an undisturbed one."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airside.containerd import unpack
from airside.containerd import unpack_layer as layering
from airside.core import failpoints as faults
from airside.core.errors import ContainerdError, StoreError
from support.containerd import Containerd
from support.unpacking import LEASE, Namespace, family, namespace_of, until_connected
from support.waiting import LIMIT_SECONDS

pytestmark = pytest.mark.system

TESTS = Path(__file__).parents[1]
POINTS = tuple(point for point in faults.PUBLISHING if point.startswith("unpack."))
PASSES = [(point, n) for point in POINTS for n in (1, 4) if (point, n) != ("unpack.after_sync", 4)]
"""A call passes that one once."""
NAMES = (f"fault-{number}" for number in itertools.count())
COUNT = 3

CHILD = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from types import SimpleNamespace
from support.snapshots import rootfs
from support.unpacking import LEASE, family, namespace_of

socket, content, snapshotter, namespace = sys.argv[1:]
containerd = SimpleNamespace(
    socket=socket, content_root=Path(content), options=SimpleNamespace(snapshotter=snapshotter)
)
with namespace_of(containerd, namespace, fresh=False) as node, node.unpacker() as unpacker:
    images = [rootfs(image) for image in family({COUNT})]
    unpacker.unpack_all(images, lease=LEASE, stop=lambda: False)
"""


def taken(node: Namespace) -> list[unpack.Rootfs]:
    return [
        node.take(image, f"docker.io/airside/fault:{number}")
        for number, image in enumerate(family(COUNT))
    ]


@pytest.fixture(scope="module")
def undisturbed(shared_containerd: Containerd) -> tuple[object, ...]:
    with namespace_of(shared_containerd, next(NAMES)) as node:
        return node.finished(taken(node))


@pytest.mark.parametrize(("point", "number"), PASSES)
def test_we_are_killed(shared_containerd: Containerd, undisturbed, point: str, number: int):
    if point == "unpack.after_sync":
        number = 1
    with namespace_of(shared_containerd, next(NAMES)) as node:
        images = taken(node)
        places = (node.containerd.socket, node.containerd.content_root)
        command = [sys.executable, "-c", CHILD, *places, node.snapshotter, node.name]
        environment = os.environ | {"AIRSIDE_FAULT": f"{point}=kill@{number}"}
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=LIMIT_SECONDS
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert node.finished(images) == undisturbed


@pytest.mark.parametrize("point", POINTS)
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


def test_an_error_at_a_step_leaves_nothing_prepared(shared_containerd: Containerd, undisturbed):
    for point in POINTS:
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
