"""What we unpack on real containerd is what `ctr` unpacks there, and runs."""

import io
import itertools
import json
import shlex
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, write_sample
from airside.containerd.layer_writer.worker_unit import UnitWorker
from airside.core.errors import (
    ContainerdError,
    DiffIdMismatchError,
    NotFoundError,
    StoppedError,
)
from airside.core.priority import NORMAL
from airside.oci.chain import rootfs_of
from airside.oci.model import parse_document
from support.containerd import Containerd, by_turns, on_one
from support.containerd_config import GC_OFTEN, Options
from support.images import TestImage, image_of, layer_of, random_image, random_layer
from support.layers_unit import listening
from support.size import sized
from support.unpacking import LEASE, Namespace, archive_of, family, namespace_of, until_connected
from support.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.system, pytest.mark.needs("runc", "unshare", "mount")]

NAMES = (f"test-{number}" for number in itertools.count())
REFERENCE = "docker.io/airside/unpacked:1"
SNAPSHOT_REF = "containerd.io/snapshot.ref"


def running() -> bool:
    return False


@pytest.fixture
def ours(shared_containerd: Containerd):
    with namespace_of(shared_containerd, next(NAMES)) as found:
        yield found


@pytest.fixture
def theirs(shared_containerd: Containerd):
    with namespace_of(shared_containerd, next(NAMES)) as found:
        yield found


def without_labels(snapshots):
    return {key: each | {"Labels": None} for key, each in snapshots.items()}


def odd_layers() -> list[bytes]:
    """Whiteouts of a file and of a directory, hard links, extended attributes, owners, a device."""

    def tar(*members: tuple[str, bytes, dict[str, object]]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
            for name, data, more in members:
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = len(data), 0o640, 1_000_000_000
                for key, value in more.items():
                    setattr(info, key, value)
                file.addfile(info, io.BytesIO(data))
        return out.getvalue()

    directory = {"type": tarfile.DIRTYPE, "mode": 0o2755}
    owner = {"uid": 12, "gid": 34}
    link = {"type": tarfile.LNKTYPE, "linkname": "etc/first", **owner}
    attributes = {"pax_headers": {"SCHILY.xattr.user.airside": "x", "LIBARCHIVE.creationtime": "1"}}
    below = tar(
        ("etc", b"", directory),
        ("etc/first", b"first", owner),
        ("etc/linked", b"", link),
        ("etc/second", b"second", attributes),
        ("var", b"", directory),
        ("var/cache", b"", directory),
        ("var/cache/old", b"old", {}),
        ("dev", b"", directory),
        ("dev/null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
    )
    above = tar(
        ("etc/.wh.second", b"", {}),
        ("var/cache/.wh..wh..opq", b"", {}),
        ("var/cache/new", b"new", {}),
        ("opt/made/below/nothing", b"x", {"mode": 0o4755}),
    )
    return [below, above]


WALK = """
import json, os, stat, sys
rows = {}
for directory, names, files in os.walk(sys.argv[1]):
    for name in [*names, *files]:
        path = os.path.join(directory, name)
        s = os.lstat(path)
        data = open(path).read() if stat.S_ISREG(s.st_mode) else None
        links = s.st_nlink if stat.S_ISREG(s.st_mode) else 0
        attributes = {k: os.getxattr(path, k, follow_symlinks=False).hex()
                      for k in os.listxattr(path, follow_symlinks=False) if "overlay" not in k}
        rows[os.path.relpath(path, sys.argv[1])] = [
            s.st_mode, s.st_uid, s.st_gid, s.st_rdev, links, data, attributes]
print(json.dumps(rows, sort_keys=True))
"""


def tree_of(node: Namespace, chain: object, where: Path) -> dict[str, list[object]]:
    """The files of an image as a container sees them."""
    where.mkdir()
    [mount] = node.client.snapshots.prepare(node.snapshotter, where.name, str(chain), {}, LEASE)
    command = ["mount", "-t", mount.type, mount.source, "-o", ",".join(mount.options), where]
    script = f'{shlex.join(map(str, command))} && exec python3 -c "$0" {where}'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, WALK], capture_output=True, text=True, check=True
    )
    node.client.snapshots.remove(node.snapshotter, where.name)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("containerd_version", "compression", "media", "way"),
    by_turns(
        [
            *itertools.product(["none", "gzip", "zstd"], ["oci", "docker"], ["written"]),
            *itertools.product(["none", "gzip", "zstd"], ["oci"], ["twins", "direct"]),
        ]
    ),
    indirect=["containerd_version"],
)
def test_it_is_what_ctr_makes(ours, theirs, tmp_path, compression, media, way):
    image = random_image(f"{compression}/{media}/{way}", compression=compression, media=media)
    rootfs = ours.take(image, REFERENCE)
    with ours.unpacker(way=way) as unpacker:
        found = unpacker.unpack(rootfs, lease=LEASE, stop=running)
        assert unpacker.is_unpacked(rootfs)
    assert (found.layers, found.layers_there) == (2, 0)
    assert ours.layers == ({"airside": 2} if way == "written" else {})
    ours.end()
    theirs.import_with_ctr(archive_of(tmp_path / "image.tar", image, REFERENCE), *_local(theirs))
    theirs.end()
    made, expected = ours.snapshots(), theirs.snapshots()
    assert without_labels(made) == without_labels(expected)
    assert {key: each["Labels"] for key, each in made.items()} == {
        key: {SNAPSHOT_REF: key} for key in expected
    }
    assert _unpacking_labels(ours, image) == _unpacking_labels(theirs, image)
    assert len(_unpacking_labels(ours, image)) == 3


def _local(node: Namespace) -> tuple[str, ...]:
    return node.containerd.local


def _unpacking_labels(node: Namespace, image: TestImage) -> dict[str, dict[str, str]]:
    """Of config and layers, without the source that an importer adds."""
    contents = node.contents()
    digests = [str(blob.digest) for blob in image.blobs[1:]]
    source = "containerd.io/distribution.source."
    return {
        digest: {k: v for k, v in contents[digest].items() if not k.startswith(source)}
        for digest in digests
    }


def test_a_unit_of_its_own_writes_layers_after_the_same_proof(ours, tmp_path):
    rootfs = ours.take(random_image("unit", compression="gzip"))
    with listening(tmp_path / "layers.sock") as unit:
        start = partial(UnitWorker, unit.path, NORMAL)
        with ours.unpacker(start=start) as unpacker:
            unpacker.unpack(rootfs, lease=LEASE, stop=running)
        assert ours.layers == {"airside": 2}
        assert unit.workers


def test_labels_of_snapshots_are_those_of_the_unpacker_of_pulls(ours, theirs, tmp_path):
    """`ctr images import` unpacks as CRI's pulls do where it has the transfer service to do it."""
    image = random_image("transfer", compression="gzip")
    rootfs = ours.take(image)
    with ours.unpacker() as unpacker:
        unpacker.unpack(rootfs, lease=LEASE, stop=running)
    flags = ["--local=false"] if _local(ours) else []
    archive = archive_of(tmp_path / "image.tar", image, REFERENCE)
    theirs.ctr("images", "import", *flags, archive)
    expected = theirs.snapshots()
    if not flags:  # 1.6: its unpacker of pulls (unpacker.go) writes this, its import nothing
        expected = {key: each | {"Labels": {SNAPSHOT_REF: key}} for key, each in expected.items()}
    assert ours.snapshots() == expected


@pytest.mark.parametrize(
    ("containerd_version", "snapshotter", "way"),
    by_turns(itertools.product(["overlayfs", "native"], ["written", "twins", "direct"])),
    indirect=["containerd_version"],
)
def test_files_are_what_ctr_unpacks(ours, theirs, tmp_path, snapshotter, way):
    ours.snapshotter = theirs.snapshotter = snapshotter
    image = image_of([layer_of(tar, compression="gzip") for tar in odd_layers()])
    rootfs = ours.take(image)
    with ours.unpacker(way=way) as unpacker:
        unpacker.unpack(rootfs, lease=LEASE, stop=running)
    theirs.import_with_ctr(archive_of(tmp_path / "image.tar", image, REFERENCE), *_local(theirs))
    chain = rootfs.steps[-1].chain
    made = tree_of(ours, chain, tmp_path / "ours")
    assert made == tree_of(theirs, chain, tmp_path / "theirs")
    assert "etc/second" not in made
    assert {name for name in made if name.startswith("var/cache/")} == {"var/cache/new"}
    assert made["etc/first"][4] == made["etc/linked"][4] == 2
    assert made["etc/first"][1:3] == [12, 34]


def test_a_container_runs_from_it(containerd: Containerd, tmp_path):
    """No `ctr` unpacks it before: the snapshots are ours."""
    write_sample(tmp_path / "hello.tar")
    with namespace_of(containerd, "k8s.io") as node:
        flags = (*containerd.local, "--no-unpack")
        containerd.did("images", "import", *flags, tmp_path / "hello.tar")
        rootfs = _rootfs_in(node, SAMPLE_NAME)
        with node.unpacker() as unpacker:
            unpacker.unpack(rootfs, lease=LEASE, stop=running)
        node.end()
        before = node.snapshots()
        ran = containerd.run_container(SAMPLE_NAME, "hello")
        assert ran.stdout.encode() == MESSAGE, ran.stderr
        assert node.snapshots() == before


def _rootfs_in(node: Namespace, name: str):
    """The node's image of a name that is an index or a manifest."""
    record = node.client.images.get(name)
    assert record is not None
    raw = b"".join(node.client.content.read(record.target.digest))
    document = parse_document(raw, record.target.media_type, name)
    while not document.is_image:
        child = document.children[0]
        raw = b"".join(node.client.content.read(child.digest))
        document = parse_document(raw, child.media_type, name)
    config = document.children[0]
    return rootfs_of(document, b"".join(node.client.content.read(config.digest)))


@pytest.mark.parametrize("way", ["written", "twins", "direct"])
def test_a_layer_that_is_another_leaves_nothing(ours, way):
    layers = [random_layer(f"right/{n}", compression="gzip") for n in range(2)]
    rootfs = ours.take(image_of(layers))
    wrong = random_layer("wrong", compression="gzip")
    ours.take(image_of([wrong]))
    lying = rootfs.__class__(rootfs.config, (rootfs.layers[0], _descriptor(wrong)), rootfs.diff_ids)
    with ours.unpacker(way=way) as unpacker:
        with pytest.raises(DiffIdMismatchError) as caught:
            unpacker.unpack(lying, lease=LEASE, stop=running)
        assert not unpacker.is_unpacked(rootfs)
    assert caught.value.context == {
        "blob": str(wrong.digest),
        "expected": str(layers[1].diff_id),
        "found": str(wrong.diff_id),
    }
    assert set(ours.snapshots()) == {str(rootfs.steps[0].chain)}
    contents = ours.contents()
    assert contents[str(wrong.digest)] == {}
    assert contents[str(rootfs.config)] == {}


def _descriptor(layer):
    from airside.oci.model import Descriptor  # noqa: PLC0415

    return Descriptor(layer.media_type, layer.digest, layer.size_bytes)


@on_one("2.1")
def test_fifty_layers_on_one_another(ours):
    image = random_image("deep", layers=50, layer_bytes=4000, compression="gzip")
    rootfs = ours.take(image)
    with ours.unpacker() as unpacker:
        assert unpacker.unpack(rootfs, lease=LEASE, stop=running).layers == 50
        assert unpacker.unpack(rootfs, lease=LEASE, stop=running).layers_there == 50
    snapshots = ours.snapshots()
    assert set(snapshots) == {str(step.chain) for step in rootfs.steps}
    ours.end()
    assert ours.snapshots() == {}, "no name leads to it, and the lease is gone"


def test_images_side_by_side_apply_each_shared_layer_once(ours):
    images = [ours.take(image) for image in family(6)]
    with ours.unpacker() as unpacker:
        found = unpacker.unpack_all(images, lease=LEASE, stop=running)
        assert all(map(unpacker.is_unpacked, images))
    assert sum(each.layers for each in found) == 2 + 6 * 2
    assert len(ours.snapshots()) == 2 + 6 * 2


@on_one("1.6")
def test_ctr_that_unpacks_the_same_at_the_same_moment(ours, tmp_path):
    """Both end well, whoever is first at each layer, and nothing prepared stays."""
    turns = sized(3, 4)
    for turn in range(turns):
        image = random_image(f"both/{turn}", layers=6, layer_bytes=400_000, compression="gzip")
        archive = archive_of(tmp_path / f"{turn}.tar", image, f"docker.io/airside/both:{turn}")
        rootfs = ours.take(image)
        with ours.unpacker() as unpacker, ThreadPoolExecutor(2) as pool:
            importing = pool.submit(ours.import_with_ctr, archive, *_local(ours))
            time.sleep(0.05 * turn)
            mine = unpacker.unpack(rootfs, lease=LEASE, stop=running)
            importing.result(LIMIT_SECONDS)
            assert mine.layers + mine.layers_there == 6
            assert unpacker.is_unpacked(rootfs)
    ours.end()
    assert {each["Kind"] for each in ours.snapshots().values()} == {"Committed"}
    assert len(ours.snapshots()) == 6 * turns


@on_one("1.7")
def test_a_stop_ends_a_long_layer_at_once(ours):
    tar = layer_of(random_layer("long", layer_bytes=150_000_000).tar)
    rootfs = ours.take(image_of([tar]))
    stopped = threading.Event()
    with ours.unpacker() as unpacker, ThreadPoolExecutor(1) as pool:
        call = pool.submit(unpacker.unpack, rootfs, lease=LEASE, stop=stopped.is_set)
        while not ours.client.snapshots.list_active(ours.snapshotter):
            assert not call.done()
        stopped.set()
        with pytest.raises(StoppedError):
            call.result(LIMIT_SECONDS)
        assert not ours.snapshots()
        assert unpacker.unpack(rootfs, lease=LEASE, stop=running).layers == 1


@on_one("2.1")
def test_a_lease_that_goes_in_the_middle_is_told(ours):
    images = [ours.take(image) for image in family(2, layer_bytes=4_000_000)]
    with ours.unpacker() as unpacker, ThreadPoolExecutor(1) as pool:
        call = pool.submit(unpacker.unpack_all, images, lease=LEASE, stop=running)
        while not list(ours.client.snapshots.list_committed(ours.snapshotter)):
            assert not call.done()
        ours.end()
        found = call.result(LIMIT_SECONDS)
        assert {type(each) for each in found} == {NotFoundError}
        ours.client.leases.create(LEASE, seconds=600)
        again = [ours.take(image) for image in family(2, layer_bytes=4_000_000)]
        unpacker.sweep()
        results = unpacker.unpack_all(again, lease=LEASE, stop=running)
        assert not [each for each in results if isinstance(each, Exception)]
    assert len(ours.snapshots()) == 6


@on_one("1.7")
def test_a_garbage_collection_after_every_change_takes_nothing(containerd_version, tmp_path):
    options = Options(gc=GC_OFTEN)
    with (
        Containerd(containerd_version, tmp_path / "c", options=options) as containerd,
        namespace_of(containerd, "k8s.io") as node,
    ):
        images = [
            node.take(image, f"docker.io/airside/gc:{n}")
            for n, image in enumerate(family(5, layer_bytes=400_000))
        ]
        with node.unpacker() as unpacker:
            found = unpacker.unpack_all(images, lease=LEASE, stop=running)
            assert not [each for each in found if isinstance(each, Exception)]
            assert not node.twins_directory.exists()
        node.end()
        containerd.collect()
        assert len(node.snapshots()) == 2 + 5 * 2
        held = {
            str(d) for rootfs in images for d in (rootfs.config, *(x.digest for x in rootfs.layers))
        }
        assert held <= set(node.contents())
        blobs = containerd.content_root / "blobs/sha256"
        assert {f"sha256:{path.name}" for path in blobs.iterdir()} == set(node.contents())


@on_one("1.6")
def test_containerd_that_is_killed_in_the_middle(containerd: Containerd):
    """The call fails, and the same call after a restart does the rest."""
    images = family(4, layer_bytes=6_000_000)
    with namespace_of(containerd, "k8s.io") as node:
        taken = [node.take(image, f"docker.io/airside/k:{n}") for n, image in enumerate(images)]
        with node.unpacker() as unpacker, ThreadPoolExecutor(1) as pool:
            call = pool.submit(unpacker.unpack_all, taken, lease=LEASE, stop=running)
            committed = partial(node.client.snapshots.list_committed, node.snapshotter)
            wait_until(lambda: call.done() or len(list(committed())) >= 3, poll_seconds=0.002)
            assert not call.done()
            containerd.kill()
            found = call.result(LIMIT_SECONDS)
            failed = [each for each in found if isinstance(each, Exception)]
            assert failed
            assert {type(each) for each in failed} == {ContainerdError}
            containerd.start()
            until_connected(node.client)
            unpacker.sweep()

            def again() -> bool:
                found = unpacker.unpack_all(taken, lease=LEASE, stop=running)
                if any(isinstance(each, Exception) for each in found):
                    containerd.collect()  # deletes a snapshot's directory that has no record
                    return False
                return True

            wait_until(again)
            assert all(map(unpacker.is_unpacked, taken))
        node.end()
        containerd.collect()
        _check_whole(node, taken, images)


def _check_whole(node: Namespace, taken, images) -> None:
    """Everything committed and labelled, and nothing else there."""
    snapshots = node.snapshots()
    assert set(snapshots) == {str(step.chain) for rootfs in taken for step in rootfs.steps}
    assert {each["Kind"] for each in snapshots.values()} == {"Committed"}
    contents = node.contents()
    for rootfs in taken:
        label = f"containerd.io/gc.ref.snapshot.{node.snapshotter}"
        assert contents[str(rootfs.config)][label] == str(rootfs.steps[-1].chain)
        for step in rootfs.steps:
            said = contents[str(step.layer.digest)]["containerd.io/uncompressed"]
            assert said == str(step.diff_id)
    assert set(contents) == {str(blob.digest) for image in images for blob in image.blobs}
    assert not node.twins_directory.exists()
