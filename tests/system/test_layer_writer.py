"""Our layer writer and containerd's Apply make the same trees of the same layers."""

import itertools
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings

from airside.core.errors import AirsideError, UnusualLayerError
from support.containerd import VERSIONS, Containerd
from support.layer_trees import Stack, applied, differences, outcome, written
from support.random_layers import (
    CAPABILITY,
    DAMAGED,
    DIRECTORY,
    LINK,
    STACKS,
    SYMLINK,
    Made,
    layer_of,
)
from support.size import sized
from support.unpacking import Namespace, namespace_of

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("containerd_version", VERSIONS, indirect=True),
]

SNAPSHOTTERS = ("overlayfs", "native")
NAMES = (f"layers-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def node(shared_containerd: Containerd):
    with namespace_of(shared_containerd, next(NAMES)) as found:
        yield found


def compare(node: Namespace, snapshotter: str, tars: list[bytes]) -> list[str]:
    """Writes layers on each other by both. Returns what differs.

    Ends where both refuse a layer, or ours leaves it to Apply.
    """
    ours, theirs = Stack(node, snapshotter, written(node)), Stack(node, snapshotter, applied(node))
    try:
        for tar in tars:
            our, their = outcome(ours.add, tar), outcome(theirs.add, tar)
            if isinstance(our, UnusualLayerError):
                return []
            if isinstance(our, AirsideError) or isinstance(their, AirsideError):
                both = isinstance(our, AirsideError) and isinstance(their, AirsideError)
                return [] if both else [f"ours {our!r}, theirs {their!r}"]
            if found := differences(our, their):
                return found
        return [] if ours.usage() == theirs.usage() else ["the usage"]
    finally:
        ours.drop()
        theirs.drop()


@settings(
    max_examples=sized(6, 1500),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(layers=STACKS)
def test_random_layers_become_the_same_trees(node: Namespace, layers: list[list[Made]]) -> None:
    for snapshotter in SNAPSHOTTERS:
        assert compare(node, snapshotter, [layer_of(each) for each in layers]) == []


@settings(
    max_examples=sized(6, 1500),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(layer=DAMAGED)
def test_a_damaged_layer_is_refused_by_both_or_becomes_the_same_tree(
    node: Namespace, layer: bytes
) -> None:
    assert compare(node, "overlayfs", [layer]) == []


def directory(name: str, mode: int = 0o755, **more: object) -> Made:
    return Made(name, DIRECTORY, mode=mode, **more)  # type: ignore[arg-type]


def symlink(name: str, target: str) -> Made:
    return Made(name, SYMLINK, link=target, mode=0o777)


BASE = [
    directory("./"),
    directory("./etc/", 0o2755, owner=(0, 7)),
    Made("./etc/shadow", data=b"first", mode=0o640, owner=(12, 34)),
    Made("./etc/linked", LINK, link="./etc/shadow", mode=0o640, owner=(12, 34)),
    Made("./etc/inherits", data=b"x"),
    directory("./etc/inheriting", 0o755),
    directory("./tmp/", 0o1777, mtime=1),
    directory("./var/cache/", 0o700, owner=(33, 33)),
    Made("./var/cache/old", data=b"old"),
    directory("./var/lib/app/", records=(("SCHILY.xattr.user.one", "1"),)),
    Made("./var/lib/app/data", data=b"d" * 70_000, records=(("mtime", "5.000000007"),)),
    Made("./usr/bin/su", data=b"su", mode=0o4755),
    Made("./usr/bin/ping", data=b"p", records=(("SCHILY.xattr.security.capability", CAPABILITY),)),
    Made("./usr/bin/ping6", LINK, link="usr/bin/ping"),  # chown takes the capability of both
    Made("./usr/bin/owned", data=b"o", mode=0o6755, owner=(2**21 + 5, 3_000_000_000)),
    Made("./dev/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
    Made("./dev/loop", tarfile.BLKTYPE, mode=0o660, owner=(0, 6), device=(259, 300)),
    Made("./run/fifo", tarfile.FIFOTYPE, mode=0o600, owner=(3, 0)),
    symlink("./bin", "usr/bin"),
    symlink("./absolute", "/usr/bin"),
    symlink("./far", "../../../../usr/bin"),
    Made("./bin/sh", data=b"sh", mode=0o755),
    Made("./absolute/awk", data=b"awk"),
    Made("./far/sed", data=b"sed"),
    Made("n" * 255, data=b"long"),
    Made("/".join(["d" * 60] * 8), data=b"deep", form=tarfile.GNU_FORMAT),
    Made("\udcff\udcfe", data=b"no text"),
    symlink("long-link", "t" * 300),
    Made("sparse-name", data=b"", records=(("SCHILY.xattr.trusted.none", "1"),)),
]
ABOVE = [
    Made("etc/.wh.shadow", owner=(4, 0)),
    Made("var/cache/.wh..wh..opq"),
    Made("var/cache/new", data=b"new"),
    Made("var/lib/app/implied/more", data=b"x", mode=0o4755),
    Made("opt/made/below", data=b"x"),
    Made("usr/bin/su", data=b"replaced"),
    symlink("tmp", "var"),  # a directory is replaced by a link
    directory("absolute"),  # and a link by a directory
    Made("absolute/file"),
    Made("twice", data=b"1"),
    symlink("twice", "else"),
    Made("twice", data=b"3"),
    Made("dev/.wh.loop"),
    Made(".wh.run"),
]
AGAIN = [
    Made("opt/.wh.made"),
    Made("opt/other", data=b"o"),
    directory("tmp"),
    Made("var/cache/.wh.new"),
    directory("var/cache/", 0o711),
]


@pytest.mark.parametrize("snapshotter", SNAPSHOTTERS)
def test_the_layers_of_images_are_written_by_us(node: Namespace, snapshotter: str) -> None:
    stack = Stack(node, snapshotter, written(node))
    for layer in (BASE, ABOVE, AGAIN, []):
        stack.add(layer_of(layer))
    stack.drop()


@pytest.mark.parametrize("snapshotter", SNAPSHOTTERS)
def test_odd_layers_become_the_same_trees(node: Namespace, snapshotter: str) -> None:
    tars = [layer_of(layer) for layer in (BASE, ABOVE, AGAIN, [])]
    assert compare(node, snapshotter, tars) == []
