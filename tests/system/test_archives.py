"""Whatever made an archive: dropped, it is pulled again bit for bit."""

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.oci_archive import oci_members
from airside.archive.writer.tar_stream import write_archive
from airside.oci.digest import Digest
from airside.oci.model import OCI_INDEX
from support.agent import Agent
from support.images import (
    TestBlob,
    TestImage,
    TestIndex,
    compact,
    containerd_manifest,
    docker_archive,
    expected_blobs,
    index_of,
    oci_archive,
    oci_layout,
    open_output,
    random_image,
    random_index,
    random_layer,
    sha256,
)
from support.makers import v1_archive, v1_config, v1_manifest, v1_steps
from support.skopeo import digests_of, pull, run, skopeo

pytestmark = [pytest.mark.system, pytest.mark.needs("skopeo")]

COMPRESSIONS = {"none": "tar", "gzip": "tar.gz", "zstd": "tar.zst"}


@dataclass(frozen=True)
class Expected:
    """What a pull of a name must bring: its document, and everything with it."""

    digest: Digest
    blobs: frozenset[Digest]
    arch: str = ""

    @classmethod
    def of(cls, image: TestImage | TestIndex) -> "Expected":
        return cls(image.digest, frozenset(expected_blobs(image)))

    @classmethod
    def saved(cls, image: TestImage) -> "Expected":
        """Of a docker-archive, whose manifest is built as containerd builds it."""
        digest = sha256(containerd_manifest(image))
        return cls(digest, frozenset({digest, *(blob.digest for blob in image.blobs[1:])}))


Names = Mapping[str, Expected]
Maker = Callable[[Path, str, str], Names]
"""Writes an archive (path, compression, a seed for its own bytes); gives what it should hold."""


def check_pulls(agent: Agent, directory: Path, names: Names) -> None:
    images = agent.images()
    for number, (name, expected) in enumerate(names.items()):
        assert images[name]["digest"] == str(expected.digest)
        got = pull(agent.registry, name, directory / f"pulled-{number}", arch=expected.arch)
        assert got == expected.blobs


# Archives of our own builders


def saved(style: str, compression: str, path: Path, packed: str, seed: str) -> Names:
    images = {
        f"example.com/{style}-{compression}/{seed}:{n}": random_image(
            f"{seed}{n}", media="docker", compression=compression
        )
        for n in range(2)
    }
    docker_archive(path, images, compression=packed, style=style)
    return {name: Expected.saved(image) for name, image in images.items()}


def several_tags(path: Path, packed: str, seed: str) -> Names:
    image, other = random_image(seed, media="docker"), random_image(f"{seed}-2", media="docker")
    names = (f"tags/{seed}", f"tags/{seed}:v1", f"quay.io/tags/{seed}:v1")
    docker_archive(path, {names: image, f"tags/{seed}:other": other}, compression=packed)
    return {
        f"docker.io/tags/{seed}:latest": Expected.saved(image),
        f"docker.io/tags/{seed}:v1": Expected.saved(image),
        f"quay.io/tags/{seed}:v1": Expected.saved(image),
        f"docker.io/tags/{seed}:other": Expected.saved(other),
    }


def without_tag(path: Path, packed: str, seed: str) -> Names:
    image = random_image(seed, media="docker")
    docker_archive(path, {(): image}, compression=packed)
    expected = Expected.saved(image)
    return {f"unnamed/without-tag-{packed}@{expected.digest}": expected}


def shared_layers(path: Path, packed: str, seed: str) -> Names:
    """The second image has only links to layers of the first."""
    base = [random_layer(f"{seed}-{n}", media="docker", number=n) for n in range(2)]
    images = {
        f"linked/{seed}:first": random_image(seed, layers=1, media="docker", base=base),
        f"linked/{seed}:second": random_image(f"{seed}-2", layers=0, media="docker", base=base),
    }
    docker_archive(path, images, compression=packed)
    specs = [image.spec() for image in images.values()]
    assert any(member.target for member in docker_members(specs))
    return {f"docker.io/{name}": Expected.saved(image) for name, image in images.items()}


def member_twice(path: Path, packed: str, seed: str) -> Names:
    """What counts is the last of several members of one name."""
    image = random_image(seed, media="docker")
    wrong = [Member("manifest.json", blob_of(b"[]"))]
    members = [*docker_members([image.spec((f"twice/{seed}:1",))])]
    wrong += [Member(m.name, blob_of(b"old")) for m in members if m.name.endswith("layer.tar")]
    with open_output(path, packed) as out:
        write_archive(out, [*wrong, *members])
    return {f"docker.io/twice/{seed}:1": Expected.saved(image)}


def config_named_by_digest(path: Path, packed: str, seed: str) -> Names:
    """As `buildah` and others name it: `sha256:<hex>`."""
    image = random_image(seed, layers=1, media="docker")
    entry = {
        "Config": str(image.config.digest),
        "RepoTags": [f"by-digest/{seed}:1"],
        "Layers": [f"{image.layers[0].digest.hex}.tar"],
    }
    members = [
        Member(str(image.config.digest), blob_of(image.config.raw)),
        Member(entry["Layers"][0], blob_of(image.layers[0].raw)),
        Member("manifest.json", blob_of(json.dumps([entry]).encode())),
    ]
    with open_output(path, packed) as out:
        write_archive(out, members)
    return {f"docker.io/by-digest/{seed}:1": Expected.saved(image)}


def layout(compression: str, path: Path, packed: str, seed: str) -> Names:
    images = {
        f"layout/{compression}-{seed}:one": random_image(seed, compression=compression),
        f"layout/{compression}-{seed}:all": random_index(seed, compression=compression),
    }
    oci_archive(path, images, compression=packed)
    return {f"docker.io/{name}": Expected.of(image) for name, image in images.items()}


def docker_types(path: Path, packed: str, seed: str) -> Names:
    """A layout with Docker's media types, as `skopeo copy --all` and `docker buildx` make them."""
    index = random_index(seed, media="docker", compression="gzip")
    oci_archive(path, {f"types/{seed}:1": index}, compression=packed)
    return {f"docker.io/types/{seed}:1": Expected.of(index)}


def hybrid(path: Path, packed: str, seed: str) -> Names:
    image = random_image(seed)
    oci_archive(path, {f"hybrid/{seed}:1": image}, compression=packed, hybrid=True)
    return {f"docker.io/hybrid/{seed}:1": Expected.of(image)}


def no_layout_file(path: Path, packed: str, seed: str) -> Names:
    image = random_image(seed)
    oci_archive(path, {f"bare/{seed}:1": image}, compression=packed, no_layout_file=True)
    return {f"docker.io/bare/{seed}:1": Expected.of(image)}


def null_manifests(path: Path, packed: str, seed: str) -> Names:
    """As `docker save` 25 with the old image store: manifest.json is what counts."""
    image = random_image(seed, media="docker")
    images = {f"null/{seed}:1": image}
    oci_archive(path, images, compression=packed, hybrid=True, null_manifests=True)
    return {f"docker.io/null/{seed}:1": Expected.saved(image)}


def nested_index(path: Path, packed: str, seed: str) -> Names:
    inner = random_index(seed)
    entry = inner.index.descriptor
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    outer = TestBlob(compact(document), OCI_INDEX)
    name = f"docker.io/nested/{seed}:1"
    index = {
        "schemaVersion": 2,
        "manifests": [{**outer.descriptor, "annotations": {"io.containerd.image.name": name}}],
    }
    members = [m for m in oci_members([inner.spec()]) if m.name != "index.json"]
    members.append(Member(f"blobs/sha256/{outer.digest.hex}", blob_of(outer.raw)))
    members.append(Member("index.json", blob_of(compact(index))))
    with open_output(path, packed) as out:
        write_archive(out, members)
    # skopeo follows one level only: what is inside is pulled by its digest
    return {name: Expected(outer.digest, frozenset({*expected_blobs(inner), outer.digest}))}


MAKERS: dict[str, Maker] = {
    "docker": functools.partial(saved, "docker", "none"),
    "docker-gzip-layers": functools.partial(saved, "docker", "gzip"),
    "docker-zstd-layers": functools.partial(saved, "docker", "zstd"),
    "skopeo": functools.partial(saved, "skopeo", "none"),
    "several-tags": several_tags,
    "without-tag": without_tag,
    "shared-layers": shared_layers,
    "member-twice": member_twice,
    "config-named-by-digest": config_named_by_digest,
    "layout": functools.partial(layout, "none"),
    "layout-gzip-layers": functools.partial(layout, "gzip"),
    "layout-zstd-layers": functools.partial(layout, "zstd"),
    "docker-types": docker_types,
    "hybrid": hybrid,
    "no-layout-file": no_layout_file,
    "null-manifests": null_manifests,
}


@pytest.mark.parametrize("packed", COMPRESSIONS)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_dropped_archive_is_pulled_bit_for_bit(shared_agent, tmp_path, maker, packed):
    path = shared_agent.watched / f"{maker}-{packed}.{COMPRESSIONS[packed]}"
    made = tmp_path / path.name
    names = MAKERS[maker](made, packed, f"{maker}-{packed}")
    shutil.copy(made, path)
    shared_agent.wait_imported(path)
    check_pulls(shared_agent, tmp_path, names)


def test_an_archive_whose_layers_were_all_held_is_pulled_bit_for_bit(shared_agent, tmp_path):
    """The same images again, packed otherwise: nothing is written, all is served."""
    image = random_image("held", media="docker", compression="gzip")
    first, second = shared_agent.watched / "held-1.tar", shared_agent.watched / "held-2.tar.gz"
    docker_archive(first, {"held/first:1": image})
    shared_agent.wait_imported(first)
    before = shared_agent.status()["blobs"]
    docker_archive(second, {"held/second:1": image}, compression="gzip")
    shared_agent.wait_imported(second)
    assert shared_agent.status()["blobs"] == before
    for name in ("first", "second"):
        expected = {f"docker.io/held/{name}:1": Expected.saved(image)}
        check_pulls(shared_agent, tmp_path / name, expected)


@pytest.mark.parametrize("packed", COMPRESSIONS)
def test_an_index_within_an_index_is_served_with_all_that_is_below(shared_agent, tmp_path, packed):
    path = shared_agent.watched / f"nested-{packed}.{COMPRESSIONS[packed]}"
    [(name, expected)] = nested_index(path, packed, f"nested-{packed}").items()
    shared_agent.wait_imported(path)
    assert shared_agent.images()[name]["digest"] == str(expected.digest)
    repository = name.removesuffix(":1")
    status, raw = shared_agent.get(f"/v2/{repository}/manifests/1")
    assert (status, sha256(raw)) == (200, expected.digest)
    [inner] = json.loads(raw)["manifests"]
    got = pull(shared_agent.registry, f"{repository}@{inner['digest']}", tmp_path / "out")
    assert got | {expected.digest} == expected.blobs


@pytest.mark.parametrize("packed", COMPRESSIONS)
def test_of_an_index_with_absent_platforms_the_present_one_is_pulled(
    shared_agent, tmp_path, packed
):
    platforms = ["linux/amd64", "linux/arm64", "linux/s390x"]
    index = random_index(f"sparse-{packed}", platforms)
    path = shared_agent.watched / f"sparse-{packed}.{COMPRESSIONS[packed]}"
    names = {f"sparse/{packed}:1": index}
    oci_archive(path, names, compression=packed, sparse={"linux/amd64", "linux/s390x"})
    found = shared_agent.wait_state(path, "imported", "partial", "rejected")
    assert found["state"] == "imported", found  # absent platforms are no problem
    name = f"docker.io/sparse/{packed}:1"
    shown = shared_agent.images()[name]
    assert shown["digest"] == str(index.digest)
    assert shown["platforms"] == ["linux/arm64"]
    present, absent = index.image("linux/arm64"), index.image("linux/amd64")
    assert pull(shared_agent.registry, name, tmp_path / "out", arch="arm64") == set(
        expected_blobs(present)
    )
    assert shared_agent.get(f"/v2/sparse/{packed}/manifests/1")[1] == index.index.raw
    assert shared_agent.get(f"/v2/sparse/{packed}/manifests/{absent.digest}")[0] == 404
    assert shared_agent.get(f"/v2/sparse/{packed}/blobs/{absent.config.digest}")[0] == 404


def test_an_archive_of_docker_before_1_10_is_served(shared_agent, tmp_path):
    steps = v1_steps("pulled", layers=3)
    path = shared_agent.watched / "v1.tar"
    v1_archive(path, {("old/app:1",): steps})
    found = shared_agent.wait_state(path, "imported")
    assert any("no checksums" in note for note in found["notes"])
    got = pull(shared_agent.registry, "old/app:1", tmp_path)
    digests = {sha256(step.tar) for step in steps}
    assert got == digests | {sha256(v1_config(steps)), sha256(v1_manifest(steps))}


def test_a_name_can_be_pulled_short_or_in_full(shared_agent, tmp_path):
    image = random_image("names", media="docker")
    path = shared_agent.watched / "names.tar"
    names = ("busybox:1.36", "registry.example:5000/tools/app:1", "rancher/pause:3.6")
    docker_archive(path, {names: image})
    shared_agent.wait_imported(path)
    spelt = [
        "busybox:1.36",
        "library/busybox:1.36",
        "docker.io/library/busybox:1.36",
        "rancher/pause:3.6",
        "registry.example_5000/tools/app:1",
        "tools/app:1",
    ]
    for number, name in enumerate(spelt):
        got = pull(shared_agent.registry, name, tmp_path / str(number))
        assert got == Expected.saved(image).blobs
    manifest = Expected.saved(image).digest
    assert (
        shared_agent.get(f"/v2/tools/app/manifests/{manifest}?ns=registry.example:5000")[0] == 200
    )
    assert shared_agent.get("/v2/tools/app/manifests/1?ns=elsewhere.example")[0] == 404


# Archives of other makers


@pytest.mark.parametrize(
    ("kind", "compression"),
    [("docker-archive", "none"), ("docker-archive", "gzip")]  # it writes no zstd layers there
    + [("oci-archive", each) for each in ("none", "gzip", "zstd")],
)
def test_an_archive_made_by_skopeo_is_pulled_bit_for_bit(shared_agent, tmp_path, kind, compression):
    image = random_image(f"skopeo-{kind}-{compression}", compression=compression)
    oci_layout(tmp_path / "layout", {"1": image})
    path = shared_agent.watched / f"skopeo-{kind}-{compression}.tar"
    name = f"docker.io/skopeo/{kind}-{compression}:1"
    made = tmp_path / path.name
    keep = ["--preserve-digests"] if kind == "oci-archive" else []
    skopeo("copy", *keep, f"oci:{tmp_path / 'layout'}:1", f"{kind}:{made}:{name}")
    shutil.copy(made, path)
    shared_agent.wait_imported(path)
    got = pull(shared_agent.registry, name, tmp_path / "out")
    if kind == "oci-archive":
        assert got == set(expected_blobs(image))
    else:  # skopeo keeps the config and writes the layers uncompressed
        tars = {layer.diff_id for layer in image.layers}
        config = json.loads((tmp_path / "out/manifest.json").read_text())["config"]["digest"]
        assert got >= tars
        assert len(got) == len(tars) + 2
        assert str(image.config.digest) == config


def test_an_archive_of_all_platforms_made_by_skopeo_is_pulled_bit_for_bit(shared_agent, tmp_path):
    index = random_index("skopeo-all", ["linux/amd64", "linux/arm64", "linux/arm/v7"])
    oci_layout(tmp_path / "layout", {"1": index})
    made, path = tmp_path / "all.tar", shared_agent.watched / "skopeo-all.tar"
    name = "docker.io/skopeo/all:1"
    source = f"oci:{tmp_path / 'layout'}:1"
    skopeo("copy", "--all", "--preserve-digests", source, f"oci-archive:{made}:{name}")
    shutil.copy(made, path)
    shared_agent.wait_imported(path)
    assert pull(shared_agent.registry, name, tmp_path / "out") == set(expected_blobs(index))
    assert len(shared_agent.images()[name]["platforms"]) == 3


def umoci_layout(directory: Path, tag: str) -> None:
    """An image of two layers, made as umoci's users do."""
    image = f"{directory / 'layout'}:{tag}"
    run("umoci", "init", "--layout", directory / "layout")
    run("umoci", "new", "--image", image)
    for number in range(2):
        bundle = directory / f"bundle-{number}"
        run("umoci", "unpack", "--rootless", "--image", image, bundle)
        (bundle / f"rootfs/file-{number}").write_text(f"{directory} {number}" * 1000)
        run("umoci", "repack", "--image", image, bundle)
    run("umoci", "config", "--image", image, "--config.cmd=/bin/true", "--author=tests")
    run("umoci", "gc", "--layout", directory / "layout")


@pytest.mark.needs("umoci")
@pytest.mark.parametrize("packed", COMPRESSIONS)
@pytest.mark.parametrize("inside", [".", "*"])
def test_a_layout_made_by_umoci_is_reachable_by_digest(shared_agent, tmp_path, packed, inside):
    """Its names are tags only. `tar .` names its members `./…`, `tar *` does not."""
    umoci_layout(tmp_path, "1.0")
    options = {"none": [], "gzip": ["--gzip"], "zstd": ["--zstd"]}[packed]
    style = {".": "dotted", "*": "plain"}[inside]
    path = shared_agent.watched / f"umoci-{style}-{packed}.{COMPRESSIONS[packed]}"
    layout_directory = tmp_path / "layout"
    members = ["."] if inside == "." else sorted(p.name for p in layout_directory.iterdir())
    run("tar", *options, "-C", layout_directory, "-cf", path, *members)
    shared_agent.wait_imported(path)
    held = {Digest("sha256", p.name) for p in (layout_directory / "blobs/sha256").iterdir()}
    [root] = json.loads((layout_directory / "index.json").read_text())["manifests"]
    [name] = shared_agent.archives()[path]["images"]
    assert name == f"unnamed/umoci-{style}-{packed}@{root['digest']}"
    assert pull(shared_agent.registry, name, tmp_path / "out") == held
    assert "is only a tag" in " ".join(shared_agent.archives()[path]["notes"])


@pytest.mark.needs("umoci")
def test_an_image_of_umoci_named_by_skopeo_is_pulled_bit_for_bit(shared_agent, tmp_path):
    umoci_layout(tmp_path, "1.0")
    path = shared_agent.watched / "umoci-skopeo.tar"
    name = "docker.io/umoci/app:1.0"
    made = tmp_path / path.name
    skopeo("copy", f"oci:{tmp_path / 'layout'}:1.0", f"oci-archive:{made}:{name}")
    made.rename(path)
    shared_agent.wait_imported(path)
    skopeo("copy", f"oci:{tmp_path / 'layout'}:1.0", f"dir:{tmp_path / 'direct'}")
    expected = set(digests_of(tmp_path / "direct"))
    assert pull(shared_agent.registry, name, tmp_path / "out") == expected


def test_every_platform_of_an_index_has_its_own_manifest(shared_agent, tmp_path):
    images = [random_image(n, platform=f"linux/{n}") for n in ("amd64", "arm64")]
    path = shared_agent.watched / "platforms.tar"
    oci_archive(path, {"platforms/app:1": index_of(images)})
    shared_agent.wait_imported(path)
    for image in images:
        arch = image.platform.architecture
        got = pull(shared_agent.registry, "platforms/app:1", tmp_path / arch, arch=arch)
        assert got == set(expected_blobs(image))


def test_nothing_that_was_dropped_here_made_the_agent_complain(shared_agent):
    """Runs last: all archives above are good ones."""
    assert shared_agent.complaints() == []
