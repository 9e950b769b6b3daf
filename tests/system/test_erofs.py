"""containerd's `erofs` snapshotter: layers are files that are mounted, not directories of files."""

from collections.abc import Iterator

import pytest

from airside.containerd.discovery import discover
from support import erofs
from support.containerd import Containerd
from support.containerd_config import Options
from support.unpacking import LEASE, family, namespace_of

pytestmark = pytest.mark.system

VERSION = "2.1"
"""The first with this snapshotter."""


@pytest.fixture(scope="module")
def node_containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    if not erofs.is_in_kernel():
        pytest.skip("this kernel has no erofs, and none is loaded")
    home = tmp_path_factory.mktemp("containerd")
    options = Options(snapshotter="erofs")
    with Containerd(VERSION, home, options=options, environ=erofs.environ()) as made:
        yield made


def test_the_snapshotter_of_cri_is_found_and_unpacks_on_this_machine(node_containerd: Containerd):
    with namespace_of(node_containerd, "found") as node:
        facts = discover(node.client)
    assert facts.snapshotter == "erofs"
    assert facts.snapshotter_root == str(erofs.root_of(node_containerd))


def test_images_are_unpacked_as_ctr_unpacks_them(node_containerd: Containerd):
    images = family(2)
    with namespace_of(node_containerd, "ours") as node:
        taken = [node.take(image, f"docker.io/airside/e:{n}") for n, image in enumerate(images)]
        with node.unpacker() as unpacker:
            found = unpacker.unpack_all(taken, lease=LEASE, stop=lambda: False)
            assert not [each for each in found if isinstance(each, Exception)]
        held = node.snapshots()
    files = sorted(erofs.layer_files(node_containerd))
    assert len(files) == len(held) == 6, "a shared base of two layers, and two of each image"
    for path in files:
        erofs.check(path)
