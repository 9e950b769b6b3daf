"""Archives for amd64, arm64 and arm/v7 with the same tag: one index, whatever came first."""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from airside.oci.digest import Digest
from support.agent import Agent
from support.containerd import Containerd
from support.images import TestImage, docker_archive, oci_archive, random_image, random_index
from support.skopeo import pull

pytestmark = [pytest.mark.system, pytest.mark.needs("skopeo")]

PLATFORMS = {"amd64": "linux/amd64", "arm64": "linux/arm64", "arm": "linux/arm/v7"}
NAME = "registry.example/team/app"


def _image(arch: str, version: str = "1") -> TestImage:
    platform = PLATFORMS[arch]
    return random_image(f"{arch}/{version}", layers=2, layer_bytes=4000, platform=platform)


def _archive(directory: Path, arch: str, tag: str, version: str = "1") -> Path:
    path = directory / f"{tag}-{arch}-{version}.tar"
    oci_archive(path, {f"{NAME}:{tag}": _image(arch, version)})
    return path


def _digest(agent: Agent, tag: str) -> str:
    return agent.images()[f"{NAME}:{tag}"]["digest"]


def _check_each_platform(agent: Agent, tag: str, directory: Path) -> None:
    """skopeo takes of the merged tag what is for its platform, and every byte of it."""
    for arch, platform in PLATFORMS.items():
        pulled = pull(
            agent.registry,
            f"{NAME}:{tag}",
            directory / f"{tag}-{arch}",
            arch=platform.removeprefix("linux/"),
        )
        assert pulled == {blob.digest for blob in _image(arch).blobs}, (tag, arch)


@pytest.mark.parametrize("restarts", [False, True], ids=["in one run", "with restarts between"])
def test_any_order_gives_the_same_tag_and_skopeo_its_own_platform(
    tmp_path: Path, *, restarts: bool
) -> None:
    images, made = tmp_path / "images", tmp_path / "made"
    images.mkdir()
    made.mkdir()
    orders = {f"order{n}": order for n, order in enumerate(itertools.permutations(PLATFORMS))}
    with Agent(images, tmp_path / "data") as agent:
        for step in range(len(PLATFORMS)):
            dropped = [
                _move(_archive(made, order[step], tag), images) for tag, order in orders.items()
            ]
            agent.wait_imported(*dropped)
            if restarts:
                agent.restart()
        assert len({_digest(agent, tag) for tag in orders}) == 1
        for tag in orders:
            item = agent.images()[f"{NAME}:{tag}"]
            assert item["platforms"] == sorted(PLATFORMS.values())
            assert (item["merged"], item["mixed"], len(item["archives"])) == (True, False, 3)
            _check_each_platform(agent, tag, tmp_path / "pulled")
        everything = pull(agent.registry, f"{NAME}:order5", tmp_path / "all")
        assert {b.digest for a in PLATFORMS for b in _image(a).blobs} <= everything
        before = _digest(agent, "order0")
        agent.restart()
        assert {_digest(agent, tag) for tag in orders} == {before}
        assert agent.complaints() == []


@pytest.mark.parametrize("arch", ["arm64", "arm"])
def test_a_node_of_another_architecture_chooses_its_own(tmp_path: Path, arch: str) -> None:
    images = tmp_path / "images"
    images.mkdir()
    mine = PLATFORMS[arch]
    for each in PLATFORMS:
        _archive(images, each, "x")
    with Agent(images, tmp_path / "data", environ={"AIRSIDE_PLATFORM": mine}) as agent:
        agent.wait_imported(*images.iterdir())
        node = agent.ask(f"/v1/explain?what={NAME}:x")["node"]
        digest = str(_image(arch).manifest.digest)
        assert node == {"platform": mine, "takes": mine, "digest": digest, "note": ""}
    only = {"platforms": "node"}
    runs = {"arm64": {"arm64", "arm"}, "arm": {"arm"}}[arch]  # 64-bit ARM runs what is for 32
    with Agent(images, tmp_path / "b", environ={"AIRSIDE_PLATFORM": mine}, tables=only) as agent:
        agent.wait_imported(*images.iterdir())
        assert agent.images()[f"{NAME}:x"]["platforms"] == sorted(PLATFORMS[a] for a in runs)
        assert agent.ask(f"/v1/explain?what={NAME}:x")["node"]["digest"] == digest
        bits = mine.removeprefix("linux/")
        pulled = pull(agent.registry, f"{NAME}:x", tmp_path / "pulled", arch=bits)
        assert pulled == {blob.digest for blob in _image(arch).blobs}
        others = {b.digest.hex for a in PLATFORMS if a not in runs for b in _image(a).blobs}
        assert not others & {p.name for p in (tmp_path / "b/oci/blobs/sha256").iterdir()}


@pytest.mark.needs("containerd", "ctr")
@pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")
def test_containerd_takes_of_the_merged_tag_what_it_is_told(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for each in PLATFORMS:
        _archive(images, each, "x")
    with Agent(images, tmp_path / "data") as agent, Containerd() as containerd:
        agent.wait_imported(*images.iterdir())
        name = f"{agent.registry}/{NAME}:x"
        for arch, platform in PLATFORMS.items():
            words = ["content", "fetch", "--plain-http", f"--platform={platform}", name]
            containerd.did(*words, namespace=arch)
            held = set(containerd.did("content", "ls", "-q", namespace=arch).split())
            wanted = {str(blob.digest) for blob in _image(arch).blobs}
            assert held == {*wanted, _digest(agent, "x")}


def _move(path: Path, directory: Path) -> Path:
    return path.rename(directory / path.name)


def test_all_at_once_before_the_start_is_the_same(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for arch in PLATFORMS:
        _archive(images, arch, "one")
    with Agent(images, tmp_path / "data") as agent:
        agent.wait_imported(*images.iterdir())
        together = _digest(agent, "one")
    late = tmp_path / "late"
    late.mkdir()
    with Agent(late, tmp_path / "other") as agent:
        for path in sorted(images.iterdir(), reverse=True):
            shutil.copy(path, late)
            agent.wait_imported(late / path.name)
        assert _digest(agent, "one") == together


def test_a_part_is_replaced_and_the_mixture_is_told(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    first, second = (_archive(images, arch, "x") for arch in ("amd64", "arm64"))
    with Agent(images, tmp_path / "data") as agent:
        agent.wait_imported(first, second)
        before = _digest(agent, "x")
        newer = _archive(tmp_path, "amd64", "x", "2")
        seen = agent.now()
        newer.replace(first)
        agent.wait_imported(first, after=seen)
        item = agent.images()[f"{NAME}:x"]
        assert item["digest"] != before
        assert item["mixed"]
        assert [p["platform"] for p in item["parts"] if p["behind"]] == ["linux/arm64"]
        [event] = agent.events("tag-mixed")
        assert event["detail"] == {"linux/arm64": str(second)}
        old = pull(agent.registry, f"{NAME}:x", tmp_path / "old", arch="arm64")
        assert old == {blob.digest for blob in _image("arm64").blobs}
        new = pull(agent.registry, f"{NAME}:x", tmp_path / "new", arch="amd64")
        assert new == {blob.digest for blob in _image("amd64", "2").blobs}
        seen = agent.now()
        _archive(tmp_path, "arm64", "x", "2").replace(second)
        agent.wait_imported(second, after=seen)
        assert not agent.images()[f"{NAME}:x"]["mixed"]


@pytest.mark.parametrize("policy", ["unpin", "delete"])
def test_a_removed_part_goes_by_the_directorys_policy(tmp_path: Path, policy: str) -> None:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    stays, goes = (_archive(images, arch, "x") for arch in ("amd64", "arm64"))
    gone = _image("arm64").layers[0].digest
    blob = data / "oci" / "blobs" / "sha256" / gone.hex
    with Agent(images, data, tables={"on_removal": policy}) as agent:
        agent.wait_imported(stays, goes)
        merged = _digest(agent, "x")
        goes.unlink()
        agent.wait_for(lambda: agent.events("removed"))
        item = agent.images()[f"{NAME}:x"]
        if policy == "unpin":
            assert item["digest"] == merged
            assert [p["backed"] for p in item["parts"]] == [True, False]
            assert item["archives"] == [str(stays)]
            assert pull(agent.registry, f"{NAME}:x", tmp_path / "still")
            seen = agent.now()
            _archive(tmp_path, "amd64", "x", "2").replace(stays)
            agent.wait_imported(stays, after=seen)
            item = agent.images()[f"{NAME}:x"]
            assert item["digest"] == str(_image("amd64", "2").manifest.digest)
        else:
            assert item["digest"] == str(_image("amd64").manifest.digest)
            agent.wait_for(lambda: not blob.exists(), what="the removed part is deleted")


def test_an_archive_that_has_it_all_is_served_byte_for_byte(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    index = random_index("whole", layers=1, layer_bytes=3000)
    with Agent(images, tmp_path / "data") as agent:
        both = images / "both.tar"
        oci_archive(tmp_path / "both.tar", {f"{NAME}:x": index})
        agent.wait_imported(_move(tmp_path / "both.tar", images))
        oci_archive(tmp_path / "one.tar", {f"{NAME}:x": index.images[1]})
        agent.wait_imported(_move(tmp_path / "one.tar", images))
        item = agent.images()[f"{NAME}:x"]
        assert (item["digest"], item["merged"]) == (str(index.index.digest), False)
        assert str(both) in item["archives"]


def test_sparse_copies_of_one_index_are_united(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    index = random_index("sparse", layers=1, layer_bytes=3000)
    with Agent(images, tmp_path / "data") as agent:
        for left_out in ("linux/arm64", "linux/amd64"):
            path = tmp_path / f"no-{left_out.replace('/', '-')}.tar"
            oci_archive(path, {f"{NAME}:x": index}, sparse=[left_out])
            agent.wait_state(_move(path, images), "imported", "partial")
        item = agent.images()[f"{NAME}:x"]
        assert item["digest"] == str(index.index.digest)
        assert item["platforms"] == ["linux/amd64", "linux/arm64"]
        pulled = pull(agent.registry, f"{NAME}:x", tmp_path / "pulled")
        assert {b.digest for i in index.images for b in i.blobs} <= pulled


def test_docker_archives_of_two_architectures_are_merged_too(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    expected: set[Digest] = set()
    with Agent(images, tmp_path / "data") as agent:
        for arch in ("amd64", "arm64"):
            image = random_image(arch, layers=1, platform=PLATFORMS[arch], media="docker")
            found = docker_archive(tmp_path / f"{arch}.tar", {"app:1": image})
            expected |= set(found.values())
            agent.wait_imported(_move(tmp_path / f"{arch}.tar", images))
        assert expected <= pull(agent.registry, "library/app:1", tmp_path / "pulled")


def test_a_lost_catalog_comes_back_with_its_merged_tags(tmp_path: Path) -> None:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    paths = [_archive(images, arch, "x") for arch in PLATFORMS]
    with Agent(images, data) as agent:
        agent.wait_imported(*paths)
        before = agent.images()[f"{NAME}:x"]
        paths[1].unlink()
        agent.wait_for(lambda: agent.events("removed"))
    for path in data.glob("catalog.db*"):
        path.unlink()
    with Agent(images, data) as agent:
        item = agent.images()[f"{NAME}:x"]
        assert item["digest"] == before["digest"]
        assert [p["platform"] for p in item["parts"] if not p["backed"]] == ["linux/arm64"]
        agent.wait_for(
            lambda: all(
                a["imported_at"] for a in agent.archives().values() if a["state"] != "removed"
            )
        )
        assert agent.images()[f"{NAME}:x"]["digest"] == before["digest"]


@pytest.mark.parametrize("given", ["node", "list"])
def test_a_directory_takes_only_the_platforms_that_it_wants(tmp_path: Path, given: str) -> None:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    index = random_index("many", ("linux/amd64", "linux/arm64"), layers=1, layer_bytes=3000)
    oci_archive(images / "many.tar", {f"{NAME}:many": index})
    other = _archive(images, "amd64", "other")
    settings = {"platforms": "node" if given == "node" else ["linux/arm64"]}
    environ = {"AIRSIDE_PLATFORM": "linux/arm64"} if given == "node" else {}
    with Agent(images, data, tables=settings, environ=environ) as agent:
        agent.wait_imported(images / "many.tar", other)
        item = agent.images()
        assert list(item) == [f"{NAME}:many"]
        assert item[f"{NAME}:many"]["digest"] == str(index.index.digest)
        assert item[f"{NAME}:many"]["platforms"] == ["linux/arm64"]
        assert "linux/amd64" in agent.archives()[other]["reason"]
        held = {path.name for path in (data / "oci/blobs/sha256").iterdir()}
        amd64, arm64 = index.images
        assert not held & {blob.digest.hex for blob in amd64.blobs}
        assert {blob.digest.hex for blob in arm64.blobs} <= held
