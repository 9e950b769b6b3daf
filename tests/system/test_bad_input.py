"""What is wrong is named, nothing of it is served, and nothing else is held up by it."""

import gzip
import io
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from airside.archive.writer.docker_archive import docker_members
from support.agent import Agent
from support.images import (
    HOSTILE_KINDS,
    docker_archive,
    flip_bit,
    hostile_tar,
    oci_archive,
    random_image,
    random_index,
    sha256,
)
from support.skopeo import run

pytestmark = pytest.mark.system

PACKED = {"none": "tar", "gzip": "tar.gz", "zstd": "tar.zst"}


def stored_at(path, data):
    """Where a member's bytes are in a plain tar."""
    return path.read_bytes().index(data)


def repack(path, packed):
    """The same tar compressed: the damage is inside, the compression is whole."""
    if packed == "none":
        return path
    target = path.with_name(path.name + {"gzip": ".gz", "zstd": ".zst"}[packed])
    if packed == "gzip":
        target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    else:
        run("zstd", "-q", path, "-o", target)
    return target


def drop(agent, path, name=None):
    target = agent.watched / (name or path.name)
    shutil.copy(path, target)
    return target


def rejected(agent, path, after=0):
    found = agent.wait_state(path, "rejected", "imported", "partial", after=after)
    assert found["state"] == "rejected", found
    return found


@pytest.mark.needs("zstd")
@pytest.mark.parametrize("packed", PACKED)
def test_a_damaged_layer_of_a_layout_is_named_with_its_image(agent, tmp_path, packed):
    image, path = random_image("damaged"), tmp_path / "damaged.tar"
    oci_archive(path, {"damaged/app:1": image})
    flip_bit(path, stored_at(path, image.layers[1].raw) + 5000)
    found = rejected(agent, drop(agent, repack(path, packed)))
    layer = image.layers[1].digest
    problems = {problem["blob"]: problem for problem in found["problems"]}
    assert str(layer) in problems
    assert "hashes to sha256:" in found["reason"]  # found, beside what is expected
    assert layer.hex in found["reason"]
    assert "damaged/app:1" in {problem["image"] for problem in found["problems"]}
    assert agent.images() == {}
    assert agent.get("/v2/damaged/app/manifests/1")[0] == 404
    assert agent.get(f"/v2/damaged/app/blobs/{image.layers[0].digest}")[0] == 404
    assert agent.status()["blobs"] == 0
    agent.wait_for(lambda: layer.hex in "".join(agent.logged("error")))


@pytest.mark.needs("zstd")
@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_damaged_layer_of_a_docker_archive_is_named_with_its_image(
    shared_agent, tmp_path, packed, compression
):
    """Here only the config's diff IDs vouch for the layers, compressed or not."""
    name = f"damaged/docker-{packed}-{compression}:1"
    image = random_image(name, media="docker", compression=compression)
    path = tmp_path / f"docker-{packed}-{compression}.tar"
    docker_archive(path, {name: image})
    members = list(docker_members([image.spec()]))
    layer = image.layers[1]
    member = next(m.name for m in members if m.blob and m.blob.digest == layer.digest)
    flip_bit(path, stored_at(path, layer.raw) + len(layer.raw) // 2)
    found = rejected(shared_agent, drop(shared_agent, repack(path, packed)))
    assert member in found["reason"]
    if compression == "none":
        assert str(layer.diff_id) in found["reason"]
    assert name in {problem["image"] for problem in found["problems"]}
    assert not [
        image for image in shared_agent.images() if f"docker-{packed}-{compression}" in image
    ]


@pytest.mark.parametrize("kind", ["config", "manifest"])
def test_a_damaged_document_is_named(agent, tmp_path, kind):
    image, path = random_image("document"), tmp_path / "document.tar"
    oci_archive(path, {"document/app:1": image})
    blob = {"config": image.config, "manifest": image.manifest}[kind]
    at = stored_at(path, blob.raw)
    flip_bit(path, at + blob.raw.index(b"sha256:") + 20, 1)
    found = rejected(agent, drop(agent, path))
    assert blob.digest.hex in found["reason"]
    assert agent.images() == {}


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_damage_in_the_compressed_stream_is_rejected(agent, tmp_path, packed):
    path = tmp_path / f"stream.{PACKED[packed]}"
    docker_archive(path, {"stream/app:1": random_image("stream")}, compression=packed)
    flip_bit(path, path.stat().st_size // 2)
    assert rejected(agent, drop(agent, path))["reason"]
    assert agent.images() == {}


def test_a_corrupt_replacement_leaves_what_was_there(agent, tmp_path):
    first, second = random_image("first"), random_image("second")
    good, bad = tmp_path / "a.tar", tmp_path / "bad.tar"
    oci_archive(good, {"kept/app:1": first})
    path = drop(agent, good)
    agent.wait_imported(path)
    before = agent.images()
    oci_archive(bad, {"kept/app:1": second})
    flip_bit(bad, stored_at(bad, second.layers[0].raw) + 100)
    seen = agent.now()
    drop(agent, bad, path.name)
    rejected(agent, path, after=seen)
    assert agent.images() == before
    assert agent.get("/v2/kept/app/manifests/1") == (200, first.manifest.raw)
    for blob in first.blobs[1:]:
        assert agent.get(f"/v2/kept/app/blobs/{blob.digest}") == (200, blob.raw)
    assert not agent.events("tag-moved")
    agent.restart()
    assert agent.images() == before
    assert agent.archives()[path]["state"] == "rejected"
    seen = agent.now()
    drop(agent, good, path.name)
    agent.wait_imported(path, after=seen)
    assert agent.images().keys() == before.keys()


@pytest.mark.parametrize("packed", PACKED)
def test_of_an_archive_that_lacks_a_blob_the_whole_images_are_served(agent, tmp_path, packed):
    whole, lacking = random_image("whole"), random_image("lacking")
    lost = lacking.layers[0].digest
    path = tmp_path / f"partial.{PACKED[packed]}"
    images = {"partial/whole:1": whole, "partial/lacking:1": lacking}
    oci_archive(path, images, drop_blobs=[lost], compression=packed)
    target = drop(agent, path)
    found = agent.wait_state(target, "partial", "rejected", "imported")
    assert found["state"] == "partial"
    assert found["images"] == ["docker.io/partial/whole:1"]
    [problem] = found["problems"]
    assert problem["image"] == "partial/lacking:1"
    assert problem["blob"] == str(lost)
    assert "not in the archive" in problem["reason"]
    assert list(agent.images()) == ["docker.io/partial/whole:1"]
    assert agent.get("/v2/partial/whole/manifests/1") == (200, whole.manifest.raw)
    assert agent.get("/v2/partial/lacking/manifests/1")[0] == 404
    agent.wait_for(lambda: lost.hex in "".join(agent.logged("warning")))
    held = {p.name for p in (agent.data / "oci/blobs/sha256").iterdir()}
    assert held == {blob.digest.hex for blob in whole.blobs}


def test_of_an_index_that_lacks_a_layer_the_whole_platforms_are_served(agent, tmp_path):
    index = random_index("platforms")
    lost = index.image("linux/arm64").layers[1].digest
    path = tmp_path / "platforms.tar"
    oci_archive(path, {"platforms/app:1": index}, drop_blobs=[lost])
    target = drop(agent, path)
    found = agent.wait_state(target, "partial", "rejected", "imported")
    assert found["state"] == "partial"
    assert found["problems"][0]["blob"] == str(lost)
    assert agent.images()["docker.io/platforms/app:1"]["platforms"] == ["linux/amd64"]
    whole, lacking = index.image("linux/amd64"), index.image("linux/arm64")
    assert agent.get(f"/v2/platforms/app/manifests/{whole.digest}")[0] == 200
    assert agent.get(f"/v2/platforms/app/manifests/{lacking.digest}")[0] == 404


def test_a_blob_that_another_archive_brought_makes_an_image_whole(agent, tmp_path):
    """What is held already need not be in the archive."""
    image = random_image("elsewhere")
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    oci_archive(first, {"held/first:1": image})
    agent.wait_imported(drop(agent, first))
    oci_archive(second, {"held/second:1": image}, drop_blobs=[b.digest for b in image.layers])
    agent.wait_imported(drop(agent, second))
    assert agent.get("/v2/held/second/manifests/1") == (200, image.manifest.raw)


def test_in_a_strict_directory_it_is_all_or_nothing(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    whole, lacking = random_image("whole"), random_image("lacking")
    path = tmp_path / "strict.tar"
    named = {"strict/whole:1": whole, "strict/lacking:1": lacking}
    oci_archive(path, named, drop_blobs=[lacking.layers[0].digest])
    with Agent(images, tmp_path / "data", tables={"strict": True}) as agent:
        target = drop(agent, path)
        found = rejected(agent, target)
        assert str(lacking.layers[0].digest) in found["reason"]
        assert agent.images() == {}
        assert agent.status()["blobs"] == 0
        oci_archive(path, named)
        seen = agent.now()
        drop(agent, path)
        agent.wait_imported(target, after=seen)
        assert len(agent.images()) == 2


def tree(directory, but):
    return sorted(p for p in directory.rglob("*") if but not in p.parents and p != but)


@pytest.mark.parametrize("packed", ["none", "gzip"])
def test_hostile_archives_are_rejected_and_write_nothing_outside(agent, tmp_path, packed):
    evil = [Path("/tmp/airside-evil"), Path("/tmp/evil"), Path("/evil")]
    assert not any(path.exists() for path in evil)
    paths = {}
    for kind in HOSTILE_KINDS:
        data = hostile_tar(kind, seed=kind)
        path = agent.watched / f"hostile-{kind}.{PACKED[packed]}"
        path.write_bytes(data if packed == "none" else gzip.compress(data, mtime=0))
        paths[kind] = path
    before = tree(tmp_path, agent.data)
    found = {kind: rejected(agent, path) for kind, path in paths.items()}
    assert all(each["reason"] for each in found.values())
    assert agent.images() == {}
    assert agent.status()["blobs"] == 0
    assert not any(path.exists() for path in evil)
    assert tree(tmp_path, agent.data) == before
    left = [p for p in (agent.data / "ingest").rglob("*") if p.is_file()]
    assert left == []
    good = random_image("after", media="docker")
    docker_archive(agent.watched / "good.tar", {"after/app:1": good})
    agent.wait_imported(agent.watched / "good.tar")


def no_archives():
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        data = b"#!/bin/sh\n"
        info = tarfile.TarInfo("install.sh")
        info.size = len(data)
        out.addfile(info, io.BytesIO(data))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as out:
        out.writestr("image.tar", bytes(1000))
    return {
        "random": random.Random(1).randbytes(100_000),
        "zip": zipped.getvalue(),
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
        "text": b"version https://git-lfs.github.com/spec/v1\n" * 100,
        "other-tar": tar.getvalue(),
        "gzipped-text": gzip.compress(b"a log file\n" * 10_000, mtime=0),
    }


def test_a_file_that_is_no_archive_is_rejected_with_what_it_is(agent):
    paths = {}
    for name, data in no_archives().items():
        paths[name] = agent.watched / f"{name}.tar"
        paths[name].write_bytes(data)
    reasons = {name: rejected(agent, path)["reason"] for name, path in paths.items()}
    assert all(reasons.values())
    assert "zip" in reasons["zip"].lower()
    assert "no images" in reasons["other-tar"]
    assert agent.images() == {}
    agent.wait_for(lambda: len(agent.logged("error")) == len(paths))


@pytest.mark.parametrize(("data", "said"), [(b"", "empty"), (bytes(100_000), "zeros")])
def test_a_file_of_nothing_waits_for_its_bytes(agent, tmp_path, data, said):
    path = agent.watched / "empty.tar"
    path.write_bytes(data)
    found = agent.wait_state(path, "incomplete")
    assert said in found["reason"]
    made = tmp_path / "made.tar"
    docker_archive(made, {"empty/app:1": random_image("empty", media="docker")})
    path.write_bytes(made.read_bytes())
    agent.wait_imported(path)
    assert agent.complaints() == []


def test_what_is_no_regular_file_is_left_alone(agent, tmp_path):
    """A pipe that nobody writes to would hold up who opens it."""
    os.mkfifo(agent.watched / "pipe.tar")
    os.mkfifo(tmp_path / "pipe")
    (agent.watched / "link-to-pipe.tar").symlink_to(tmp_path / "pipe")
    (agent.watched / "dangling.tar").symlink_to(tmp_path / "absent")
    (agent.watched / "loop.tar").symlink_to("loop.tar")
    (agent.watched / "directory.tar").mkdir()
    (agent.watched / "to-null.tar").symlink_to("/dev/zero")
    good = agent.watched / "good.tar"
    docker_archive(good, {"good/app:1": random_image("good", media="docker")})
    agent.wait_imported(good)
    agent.wait_idle()
    assert list(agent.archives()) == [good]
    assert agent.complaints() == []


def test_big_archives_that_end_early_do_not_hold_up_a_small_one(agent):
    """Three of 400 MB that never end, and a sparse file of 50 GB, then a good one."""
    info = tarfile.TarInfo("layer.tar")
    info.size = 60 << 30
    header = info.tobuf(tarfile.GNU_FORMAT)
    zeros = gzip.compress(bytes(1 << 25), compresslevel=1, mtime=0)
    for number in range(3):
        path = agent.watched / f"endless-{number}.tar.gz"
        path.write_bytes(gzip.compress(header) + zeros * 12)
    sparse = agent.watched / "sparse.tar"
    with sparse.open("wb") as out:
        out.write(header)
        out.truncate(50 << 30)
    agent.wait_for(lambda: len(agent.events("importing")) >= 2)
    good = agent.watched / "good.tar"
    docker_archive(good, {"good/app:1": random_image("good", media="docker")})
    agent.wait_imported(good)
    for path in [sparse, *agent.watched.glob("endless-*")]:
        found = agent.wait_state(path, "incomplete", "rejected")
        assert found["state"] == "incomplete", found
    assert list(agent.images()) == ["docker.io/good/app:1"]


@pytest.mark.needs("setpriv")
def test_an_archive_that_may_not_be_read_is_read_once_it_may(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    path = images / "secret.tar"
    docker_archive(path, {"secret/app:1": random_image("secret", media="docker")})
    path.chmod(0)
    before = []
    if os.geteuid() == 0:  # as root, but without the right to read everything
        before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    with Agent(images, tmp_path / "data", before=before) as agent:
        found = agent.wait_state(path, "unreadable", "imported", "rejected", "failed")
        assert found["state"] == "unreadable", found
        assert "read permission" in found["reason"]
        path.chmod(0o644)
        agent.wait_imported(path)


def test_a_wrong_digest_is_never_served_under_its_name(agent, tmp_path):
    """Every blob file in the store has the digest that it is called by, whatever was dropped."""
    image = random_image("true")
    for number in range(8):
        path = tmp_path / f"flipped-{number}.tar"
        oci_archive(path, {f"flipped/app:{number}": image})
        flip_bit(path, path.stat().st_size * (2 * number + 1) // 16)
        shutil.copy(path, agent.watched)
    agent.wait_for(
        lambda: (
            len(agent.archives()) == 8
            and {a["state"] for a in agent.archives().values()}
            <= {"imported", "rejected", "partial", "incomplete"}
        )
    )
    blobs = agent.data / "oci/blobs/sha256"
    for blob in blobs.iterdir() if blobs.exists() else ():
        assert sha256(blob.read_bytes()).hex == blob.name
    for item in agent.images().values():
        assert item["digest"] == str(image.digest)
