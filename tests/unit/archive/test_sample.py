import gzip
import io
import json
import os
import struct
import subprocess
import tarfile

import pytest

from airside.archive.sample import MESSAGE, SAMPLE_NAME, executable, sample_image, write_sample
from airside.core.errors import ReferenceInvalidError, RequestInvalidError, StoreError
from airside.oci.model import OCI_INDEX, OCI_MANIFEST, parse_config, parse_document
from airside.oci.platform import Platform, node_platform
from support.images import zstd

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
SAMPLE_DIGEST = "sha256:a6a640fffd03aaabe09ae94db0426689c69bf7389962d0d7ba5927857d051ff1"


def members(raw):
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}


def blob(files, digest):
    return files[f"blobs/sha256/{digest.hex}"]


def read_tree(raw):
    """Platform → (config, layers) of the one image, read from `index.json` down."""
    files = members(raw)
    [root] = parse_document(files["index.json"], OCI_INDEX, "index.json").children
    images = {}
    for child in parse_document(blob(files, root.digest), OCI_INDEX, "index").children:
        manifest = parse_document(blob(files, child.digest), OCI_MANIFEST, "manifest").content
        layers = [blob(files, layer.digest) for layer in manifest.layers]
        images[child.platform] = (blob(files, manifest.config.digest), layers)
    return root, images


@pytest.mark.skipif(node_platform() != AMD64, reason="runs the amd64 program: this is not amd64")
def test_the_amd64_program_of_the_image_runs(tmp_path):
    write_sample(tmp_path / "hello.tar")
    _, images = read_tree((tmp_path / "hello.tar").read_bytes())
    _, [layer] = images[AMD64]
    program = tmp_path / "hello"
    program.write_bytes(members(layer)["hello"])
    program.chmod(0o755)
    result = subprocess.run([program], capture_output=True, check=True, env={}, timeout=10)
    assert result.stdout == MESSAGE
    assert result.stderr == b""


@pytest.mark.parametrize(("platform", "machine"), [(AMD64, 62), (ARM64, 183)])
def test_the_elf_header_fits_the_platform(platform, machine):
    program = executable(platform)
    assert program[:8] == b"\x7fELF\x02\x01\x01\x00"
    kind, found, version = struct.unpack_from("<HHI", program, 16)
    assert (kind, found, version) == (2, machine, 1)
    entry, segments = struct.unpack_from("<QQ", program, 24)
    assert entry == 0x400000 + 120
    assert segments == 64
    kind, flags, offset, address, _, in_file, in_memory, align = struct.unpack_from(
        "<IIQQQQQQ", program, 64
    )
    assert (kind, flags, offset, in_file, in_memory) == (1, 5, 0, len(program), len(program))
    assert address % align == offset % align
    assert program.endswith(MESSAGE)
    assert (entry - address) % 4 == 0


def test_arm64_words_point_at_the_message():
    program = executable(ARM64)
    words = struct.unpack_from("<8I", program, 120)
    assert words[1] & 0x9F00001F == 0x10000001  # adr x1
    distance = (words[1] >> 5 & 0x7FFFF) << 2
    assert program[120 + 4 + distance :] == MESSAGE
    assert words[2] >> 5 & 0xFFFF == len(MESSAGE)  # mov x2
    assert words[3] == 0xD2800000 | 64 << 5 | 8
    assert words[6] == 0xD2800000 | 93 << 5 | 8
    assert words[4] == words[7] == 0xD4000001


def test_the_oci_sample_is_one_image_of_two_platforms(tmp_path):
    assert write_sample(tmp_path / "hello.tar") == [SAMPLE_NAME]
    root, images = read_tree((tmp_path / "hello.tar").read_bytes())
    assert root.annotations["io.containerd.image.name"] == SAMPLE_NAME
    assert list(images) == [AMD64, ARM64]
    for platform, (raw, [layer]) in images.items():
        config = parse_config(raw, "config")
        assert config.platform == platform
        assert len(config.diff_ids) == 1
        assert json.loads(raw)["config"]["Cmd"] == ["/hello"]
        assert json.loads(raw)["created"].startswith("1970-")
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            [info] = tar
            assert (info.name, info.mode, info.isfile()) == ("hello", 0o755, True)


def test_the_digest_of_the_sample_never_changes(tmp_path):
    write_sample(tmp_path / "hello.tar")
    root, _ = read_tree((tmp_path / "hello.tar").read_bytes())
    assert str(root.digest) == SAMPLE_DIGEST


@pytest.mark.parametrize(
    ("name", "decompress"),
    [("a.tar.gz", gzip.decompress), ("a.tgz", gzip.decompress), ("a.tar.zst", zstd.decompress)],
)
def test_the_suffix_chooses_the_compression(tmp_path, name, decompress):
    write_sample(tmp_path / "a.tar")
    write_sample(tmp_path / name)
    assert decompress((tmp_path / name).read_bytes()) == (tmp_path / "a.tar").read_bytes()


def test_the_docker_sample_is_of_one_platform(tmp_path):
    path = tmp_path / "hello.tar"
    assert write_sample(path, format="docker", platform=ARM64, name="me/hello:2") == [
        "docker.io/me/hello:2"
    ]
    files = members(path.read_bytes())
    [entry] = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["docker.io/me/hello:2"]
    assert parse_config(files[entry["Config"]], "config").platform == ARM64
    assert members(files[entry["Layers"][0]])["hello"] == executable(ARM64)


def test_the_docker_sample_is_of_the_nodes_platform_unless_told(tmp_path, monkeypatch):
    class Machine:
        sysname, machine = "Linux", "aarch64"

    monkeypatch.setattr(os, "uname", lambda: Machine)
    write_sample(tmp_path / "hello.tar", format="docker")
    files = members((tmp_path / "hello.tar").read_bytes())
    [entry] = json.loads(files["manifest.json"])
    assert parse_config(files[entry["Config"]], "config").platform == ARM64


def test_wrong_requests_are_refused_before_a_file_is_made(tmp_path):
    with pytest.raises(RequestInvalidError) as caught:
        write_sample(tmp_path / "a.tar", format="docker", platform=Platform("linux", "s390x"))
    assert "linux/amd64" in caught.value.context["hint"]
    with pytest.raises(RequestInvalidError):
        write_sample(tmp_path / "a.zip")
    with pytest.raises(ReferenceInvalidError):
        write_sample(tmp_path / "a.tar", name="a/Upper")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError):
        write_sample(tmp_path / "no" / "a.tar")


def test_an_image_without_a_name_can_be_made():
    assert sample_image(AMD64).names == ()
