"""Layers of erofs that we write, beside those of containerd's own differ, mounted and compared."""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from airside.containerd.erofs.layer_file import CLONED, COPIED
from airside.containerd.erofs.layer_writer import ErofsLayerWriter
from airside.containerd.erofs.platform import Mkfs, kernel_numbers
from airside.containerd.erofs.proof import ErofsProof
from airside.containerd.erofs.snapshot_directory import directory_of
from airside.containerd.services.snapshots import Mount
from airside.containerd.verified_tars import VerifiedTar
from airside.core.errors import LayerRefusedError, UnusualLayerError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import OCI_LAYER, Descriptor
from support import erofs, erofs_tree
from support.containerd import Containerd
from support.containerd_config import Options
from support.layer_members import END, FILE, REFUSED
from support.unpacking import LEASE, Namespace, namespace_of
from support.waiting import wait_until

pytestmark = pytest.mark.system

BASE = {"usr/": 0o2751, "usr/bin/": 0o711, "etc/": 0o700}
OWNER = 70000
"""Of the directories of `BASE`: more than 16 bits."""
_PLACE = 8
"""Where a tree's row has the time of a directory."""


def opened(raw: bytes, path: Path) -> VerifiedTar:
    path.write_bytes(raw)
    return VerifiedTar(path.open("rb"), digest_of(raw))


class Node:
    """Two ways to the same snapshot: containerd's differ, and our writer."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.client, self.directory = namespace.client, directory
        self.writer = ErofsLayerWriter(self.mkfs)
        self._count = 0

    @property
    def mkfs(self) -> Mkfs:
        return Mkfs(str(erofs.programs() / "mkfs.erofs"), (1, 8))

    def prepared(self, parent: str = "") -> tuple[str, Sequence[Mount]]:
        self._count += 1
        key = f"k{self._count}"
        return key, self.client.snapshots.prepare("erofs", key, parent, {}, LEASE)

    def committed(self, key: str) -> str:
        self.client.snapshots.commit("erofs", f"c{key}", key, {}, LEASE)
        return f"c{key}"

    def ours(self, raw: bytes, parent: str = "") -> tuple[str, Path]:
        """Returns the committed snapshot, and its file."""
        key, mounts = self.prepared(parent)
        layer = opened(raw, self.directory / key)
        with layer.file:
            self.writer.write(mounts, layer, lambda: False)
        return self.committed(key), Path(directory_of(mounts), "layer.erofs")

    def theirs(self, raw: bytes, parent: str = "") -> tuple[str, Path]:
        key, mounts = self.prepared(parent)
        digest = digest_of(raw)
        self._send(digest, raw)
        self.client.diff.apply(Descriptor(OCI_LAYER, digest, len(raw)), mounts, LEASE)
        return self.committed(key), Path(directory_of(mounts), "layer.erofs")

    def _send(self, digest: Digest, raw: bytes) -> None:
        key = f"test-{self._count}"
        self.client.content.send(key, digest, len(raw), {}, LEASE, io.BytesIO(raw))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if not erofs.is_in_kernel():
        pytest.skip("this kernel has no erofs, and none is loaded")
    home = tmp_path_factory.mktemp("containerd")
    options = Options(snapshotter="erofs", cri=False)
    with (
        Containerd("2.1", home, options=options, environ=erofs.environ()) as made,
        namespace_of(made, "erofs") as namespace,
    ):
        yield Node(namespace, tmp_path_factory.mktemp("tars"))


def tar_of(members: Mapping[str, tarfile.TarInfo | int | bytes]) -> bytes:
    """A directory for each mode, a file for bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, value in members.items():
            info = value if isinstance(value, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name, info.mtime = name.removesuffix("/"), 1_234_567_890.25
            if isinstance(value, int):
                info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, value, OWNER, OWNER
            data = value if isinstance(value, bytes) else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def info(kind: bytes, link: str = "", **values: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo()
    found.type, found.linkname = kind, link
    for key, value in values.items():
        setattr(found, key, value)
    return found


XATTRS = {
    "SCHILY.xattr.user.note": "yes",
    "SCHILY.xattr.security.capability": "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
}
ODD: dict[str, Mapping[str, tarfile.TarInfo | int | bytes]] = {
    "attributes": {
        "./": 0o755,
        "suid": info(tarfile.REGTYPE, mode=0o4755, uid=3_000_000, gid=3_000_001),
        "capable": info(tarfile.REGTYPE, mode=0o755, pax_headers=XATTRS),
        "fifo": info(tarfile.FIFOTYPE, mode=0o622),
        "null": info(tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        "disk": info(tarfile.BLKTYPE, devmajor=250, devminor=700, mode=0o660),
    },
    "links": {
        "./": 0o755,
        "a/": 0o700,
        "a/file": b"content" * 1000,
        "b/": 0o1777,
        "b/hard": info(tarfile.LNKTYPE, "a/file"),
        "b/soft": info(tarfile.SYMTYPE, "../a/file"),
        "b/dangling": info(tarfile.SYMTYPE, "/nowhere/" + "x" * 300),
    },
    "whiteouts": {
        "./": 0o755,
        "usr/": 0o755,
        "usr/.wh.gone": b"",
        "usr/new/": 0o755,
        "usr/new/.wh..wh..opq": b"",
        "usr/new/file": b"x" * 4097,
    },
    "names": {
        "./": 0o755,
        "d" * 90 + "/": 0o755,
        "d" * 90 + "/" + "n" * 200: b"long",
        "ü\udcff": b"no UTF-8",
        "twice": info(tarfile.SYMTYPE, "first"),
        "empty": b"",
        "big": bytes(range(256)) * 9000,
    },
    "many": {"./": 0o755, **{f"file-{n:05}": b"%d" % n for n in range(3000)}},
}


@pytest.mark.parametrize("name", ODD)
def test_a_layer_is_what_containerds_differ_makes_of_it(node: Node, name: str):
    raw = tar_of(ODD[name])
    ours, theirs = erofs_tree.trees(node.ours(raw)[1], node.theirs(raw)[1])
    assert len(ours) > 3
    assert ours == theirs


def test_the_tar_lies_behind_its_index(node: Node):
    raw = tar_of(ODD["links"])
    _, path = node.ours(raw)
    assert path.read_bytes().endswith(raw)
    assert path.stat().st_mode & 0o7777 == 0o644
    erofs.check(path)


def test_a_directory_without_an_entry_is_that_of_the_layer_below(node: Node):
    base, below = node.ours(tar_of({"./": 0o750, **BASE}))
    _, path = node.ours(tar_of({"usr/bin/tool": b"tool", "etc/new/file": b""}), base)
    [tree, lower] = erofs_tree.trees(path, below)
    for name in ("/", "/usr", "/usr/bin", "/etc"):
        assert tree[name][:3] == lower[name][:3], name
        assert tree[name][7] == lower[name][7], "its time"
    assert tree["/etc/new"][:3] == ["0o40755", 0, 0], "no layer has it"


def test_a_layer_on_one_of_containerds_differ_finds_its_directories(node: Node):
    base, _ = node.theirs(tar_of({"./": 0o755, **BASE}))
    _, path = node.ours(tar_of({"usr/bin/tool": b"tool"}), base)
    [tree] = erofs_tree.trees(path)
    assert tree["/usr/bin"][:3] == ["0o40711", OWNER, OWNER]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_layer_that_would_be_indexed_wrongly_is_never_written(node: Node, name: str):
    key, mounts = node.prepared()
    layer = opened(FILE + REFUSED[name][0] + END, node.directory / key)
    with layer.file:
        try:
            node.writer.write(mounts, layer, lambda: False)
        except (LayerRefusedError, UnusualLayerError):
            assert not Path(directory_of(mounts), "layer.erofs").exists()
        else:
            assert name == "no-target"
    node.client.snapshots.remove("erofs", key)


def test_the_directory_is_proved_and_the_proof_leaves_nothing(node: Node):
    before = sorted(node.client.snapshots.list_active("erofs"))
    assert ErofsProof(node.client, "airside", node.mkfs, kernel_numbers()).run() == ""
    assert sorted(node.client.snapshots.list_active("erofs")) == before
    assert node.client.leases.list() == [LEASE]


def test_a_snapshot_that_somebody_wrote_to_is_left_alone(node: Node):
    key, mounts = node.prepared()
    Path(mounts[0].source, "stranger").touch()
    layer = opened(END, node.directory / key)
    with layer.file, pytest.raises(UnusualLayerError, match="fresh"):
        node.writer.write(mounts, layer, lambda: False)
    node.client.snapshots.remove("erofs", key)


def test_removed_snapshots_leave_no_file(node: Node):
    name, path = node.ours(tar_of(ODD["links"]))
    child, _ = node.ours(tar_of(ODD["whiteouts"]), name)  # containerd mounts the parent for it
    for each in (child, name):
        node.client.snapshots.remove("erofs", each)
    wait_until(lambda: not path.exists())  # by containerd's collection


def test_the_ways_are_counted(node: Node):
    assert set(node.writer.ways) <= {CLONED, COPIED}
    assert sum(node.writer.ways.values()) >= 1
