"""A real client reads what we write."""

import json
import subprocess

import pytest

from airside.archive.sample import SAMPLE_NAME, write_sample
from support.images import (
    docker_archive,
    expected_blobs,
    oci_archive,
    random_image,
    random_index,
    random_layer,
    rke2_like_set,
)

pytestmark = pytest.mark.needs("skopeo")


def skopeo(*args):
    command = ["skopeo", "--insecure-policy", *map(str, args)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def diff_ids(layout):
    """The diff IDs of the one image of a layout directory."""

    def load(descriptor):
        return json.loads((layout / "blobs/sha256" / descriptor["digest"][7:]).read_text())

    [root] = json.loads((layout / "index.json").read_text())["manifests"]
    return load(load(root)["config"])["rootfs"]["diff_ids"]


@pytest.mark.parametrize("style", ["docker", "skopeo"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_skopeo_reads_and_copies_docker_archives(tmp_path, style, compression):
    base = random_layer("base", media="docker")
    images = {
        f"a.example/app:{n}": random_image(n, media="docker", base=[base], compression=compression)
        for n in (1, 2)
    }
    path = tmp_path / "a.tar"
    docker_archive(path, images, style=style)
    for name, image in images.items():
        manifest = json.loads(skopeo("inspect", "--raw", f"docker-archive:{path}:{name}"))
        assert manifest["config"]["digest"] == str(image.config.digest)
        assert [layer["digest"] for layer in manifest["layers"]] == [
            str(layer.diff_id) for layer in image.layers
        ]
        out = tmp_path / name[-1]
        skopeo("copy", f"docker-archive:{path}:{name}", f"oci:{out}:x")
        assert diff_ids(out) == [str(layer.diff_id) for layer in image.layers]


@pytest.mark.parametrize("compression", ["none", "gzip", "stored", "zstd"])
@pytest.mark.parametrize("hybrid", [False, True])
def test_skopeo_reads_and_copies_oci_archives_byte_for_byte(tmp_path, compression, hybrid):
    image = random_image(1, compression=compression)
    path = tmp_path / "a.tar"
    oci_archive(path, {"a.example/app:1": image}, hybrid=hybrid)
    ref = "1" if hybrid else "a.example/app:1"
    assert skopeo("inspect", "--raw", f"oci-archive:{path}:{ref}") == image.manifest.raw
    skopeo("copy", "--preserve-digests", f"oci-archive:{path}:{ref}", f"oci:{tmp_path / 'out'}:x")
    held = {each.name for each in (tmp_path / "out/blobs/sha256").iterdir()}
    assert held == {digest.hex for digest in expected_blobs(image)}


def test_skopeo_copies_all_platforms_of_an_index(tmp_path):
    index = random_index(1, ["linux/amd64", "linux/arm64", "linux/arm/v7"])
    path = tmp_path / "a.tar"
    oci_archive(path, {"a.example/app:1": index})
    source = f"oci-archive:{path}:a.example/app:1"
    assert skopeo("inspect", "--raw", source) == index.index.raw
    skopeo("copy", "--all", "--preserve-digests", source, f"oci:{tmp_path / 'out'}:x")
    held = {each.name for each in (tmp_path / "out/blobs/sha256").iterdir()}
    assert held == {digest.hex for digest in expected_blobs(index)}


def test_skopeo_reads_a_docker_archive_with_a_link_to_an_earlier_layer(tmp_path):
    base = random_layer("base", media="docker")
    images = {
        "a.example/first:1": random_image(1, layers=1, media="docker", base=[base]),
        "a.example/base:1": random_image(2, layers=0, media="docker", base=[base]),
    }
    path = tmp_path / "a.tar"
    docker_archive(path, images)
    skopeo("copy", f"docker-archive:{path}:a.example/base:1", f"oci:{tmp_path / 'out'}:x")
    assert diff_ids(tmp_path / "out") == [str(base.diff_id)]


def test_skopeo_reads_compressed_docker_archives(tmp_path):
    # zstd only: skopeo 1.9.3 (Debian 12) reads no gzipped docker-archive, not GNU gzip's either
    archive = rke2_like_set(tmp_path, layer_bytes=20_000).canal
    for name, image in archive.images.items():
        raw = skopeo("inspect", "--raw", f"docker-archive:{archive.path}:{name}")
        assert json.loads(raw)["config"]["digest"] == str(image.config.digest)


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_skopeo_reads_the_sample(tmp_path, form):
    path = tmp_path / "hello.tar"
    write_sample(path, format=form)
    config = json.loads(
        skopeo(
            "--override-arch",
            "amd64",
            "inspect",
            "--config",
            f"{form}-archive:{path}:{SAMPLE_NAME}",
        )
    )
    assert config["config"]["Cmd"] == ["/hello"]
