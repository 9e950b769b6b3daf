"""What is published first."""

import random
from pathlib import Path

from airside.catalog.tag_states import TagState
from airside.containerd.desired_state import DesiredImage
from airside.containerd.image_documents import ChosenImage
from airside.containerd.publish_order import PublishOrder, is_first
from airside.core.settings import WatchedDirectory
from airside.oci.digest import digest_of
from airside.oci.model import OCI_MANIFEST, Descriptor

DIRECTORIES = (
    WatchedDirectory(Path("/images")),
    WatchedDirectory(Path("/images/core"), priority=10),
    WatchedDirectory(Path("/late"), priority=-1),
)


def image(path: str, size_bytes: int = 1, *archives: str, host: str = "docker.io") -> DesiredImage:
    digest, config = digest_of(path.encode()), digest_of(f"{path} config".encode())
    chosen = ChosenImage((Descriptor(OCI_MANIFEST, digest, 1),), config, "", size_bytes)
    tag = TagState(host, path, "1", str(digest), OCI_MANIFEST, "", 1, True, archives)
    return DesiredImage(tag, chosen, (f"{host}/{path}:1", f"{host}/{path}@{digest}"))


def ordered(images: list[DesiredImage], *wanted: str) -> list[str]:
    order = PublishOrder(DIRECTORIES)
    random.Random(1).shuffle(images)
    return [each.tag.path for each in sorted(images, key=lambda i: order.of(i, frozenset(wanted)))]


def test_sandbox_images_then_what_pods_want_then_priority_then_size() -> None:
    by_id = image("by-id", 900)
    images = [
        image("a/big", 500, "/images/big.tar"),
        image("a/small", 5, "/images/small.tar"),
        image("late", 1, "/late/late.tar"),
        image("core", 700, "/late/core.tar", "/images/core/deep/core.tar"),
        image("etcd", 800, "/late/etcd.tar"),
        by_id,
        image("pause", 999, "/late/pause.tar", host="registry.k8s.io"),
    ]
    expected = ["pause", "etcd", "by-id", "core", "a/small", "a/big", "late"]
    wanted = ("docker.io/etcd:1", str(by_id.content.config))
    assert ordered(images, *wanted) == ["pause", "by-id", *expected[1:2], *expected[3:]]


def test_only_a_sandbox_image_goes_alone() -> None:
    order = PublishOrder(())
    assert is_first(order.of(image("mirrored-pause"), frozenset()))
    assert not is_first(order.of(image("pauser"), frozenset({"docker.io/pauser:1"})))


def test_a_pull_that_runs_is_known_by_a_digest() -> None:
    pulled = image("z", 10)
    digest = str(pulled.content.target.digest)
    assert ordered([image("a"), pulled], digest) == ["z", "a"]
