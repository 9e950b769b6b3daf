import errno
import gzip
import hashlib
import io
import json
import tarfile
import tracemalloc

import pytest

from airside.archive.writer.docker_archive import docker_members, write_docker_archive
from airside.archive.writer.member import Blob, Member, blob_of
from airside.archive.writer.oci_archive import oci_members, write_oci_archive
from airside.archive.writer.output_file import open_compressed
from airside.archive.writer.tar_stream import write_archive
from airside.core.errors import DigestMismatchError, SizeMismatchError, StorageFullError, StoreError
from airside.oci.digest import Digest
from airside.oci.model import parse_document
from support.images import (
    CANAL,
    HOSTILE_KINDS,
    big_archive,
    compress,
    containerd_manifest,
    docker_archive,
    expected_blobs,
    flip_bit,
    hostile_tar,
    index_of,
    layer_of,
    oci_archive,
    oci_layout,
    random_image,
    random_index,
    random_layer,
    rke2_like_set,
    sha256,
    truncate,
    zstd,
)


def written(write, *args, **kwargs):
    out = io.BytesIO()
    write(out, *args, **kwargs)
    return out.getvalue()


def contents(data):
    """Name → bytes; symbolic links are followed, directories are None."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            info.name: None if info.isdir() else tar.extractfile(info).read()
            for info in tar.getmembers()
        }


def order(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


class WriteOnly(io.RawIOBase):
    """A pipe: it has neither tell nor seek."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


@pytest.mark.parametrize("style", ["docker", "skopeo"])
def test_a_docker_archive_reads_back_as_its_manifest_json_says(style):
    image = random_image(1, media="docker")
    data = written(write_docker_archive, [image.spec(("a/b:1", "a/b:2"))], style=style)
    files = contents(data)
    [entry] = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["a/b:1", "a/b:2"]
    assert entry["Config"] == f"{image.config.digest.hex}.json"
    assert files[entry["Config"]] == image.config.raw
    assert [files[path] for path in entry["Layers"]] == [layer.raw for layer in image.layers]
    assert order(data)[-2:] == ["repositories", "manifest.json"]


def test_a_skopeo_archive_names_layers_by_diff_id_and_links_the_v1_directories():
    image = random_image(1, media="docker", compression="gzip")
    data = written(write_docker_archive, [image.spec(("a/b:1",))], style="skopeo")
    [entry] = json.loads(contents(data)["manifest.json"])
    assert entry["Layers"] == [f"{layer.diff_id.hex}.tar" for layer in image.layers]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        links = [info.linkname for info in tar if info.issym()]
    assert links == [f"../{layer.diff_id.hex}.tar" for layer in image.layers]


def test_a_layer_that_two_images_share_is_written_once():
    base = random_layer("base", media="docker")
    one, two = (random_image(n, layers=1, media="docker", base=[base]) for n in (1, 2))
    only_base = random_image(3, layers=0, media="docker", base=[base])
    specs = [one.spec(("x:1",)), two.spec(("y:1",)), only_base.spec(("z:1",))]
    data = written(write_docker_archive, specs)
    entries = json.loads(contents(data)["manifest.json"])
    assert entries[0]["Layers"][0] == entries[1]["Layers"][0]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        link = tar.getmember(entries[2]["Layers"][0])
        assert link.issym()
        assert link.linkname == f"../{entries[0]['Layers'][0]}"
        assert len(tar.getnames()) == len(set(tar.getnames()))


@pytest.mark.parametrize("media", ["oci", "docker"])
def test_an_oci_archive_holds_every_blob_under_its_digest_and_the_index_last(media):
    index, image = random_index(1, media=media), random_image(2, media=media)
    data = written(write_oci_archive, [index.spec(("a.example/m:1",)), image.spec()])
    names, files = order(data), contents(data)
    assert names[0] == "oci-layout"
    assert names[-1] == "index.json"
    blobs = {name[-64:]: raw for name, raw in files.items() if name.startswith("blobs/sha256/")}
    expected = {**expected_blobs(index), **expected_blobs(image)}
    assert {sha256(raw): len(raw) for raw in blobs.values()} == expected
    assert set(blobs) == {digest.hex for digest in expected}
    root = parse_document(files["index.json"], "application/vnd.oci.image.index.v1+json", "index")
    assert [each.digest for each in root.children] == [index.digest, image.digest]
    assert root.children[1].platform == image.platform
    assert root.children[1].annotations == {}


def test_the_derived_documents_are_those_that_the_builder_makes():
    for media in ("oci", "docker"):
        index = random_index(1, ["linux/amd64", "linux/arm/v7"], media=media)
        assert index.spec().index == index.index.raw
        assert [image.spec().manifest for image in index.images] == [
            image.manifest.raw for image in index.images
        ]


def test_each_name_has_its_entry_with_annotations_where_they_fit():
    members = list(oci_members([random_image(1).spec(("a.example/b:1", "a.example/b__c:1"))]))
    with members[-1].blob.open() as source:
        entries = json.load(source)["manifests"]
    assert [entry["annotations"] for entry in entries] == [
        {
            "io.containerd.image.name": "a.example/b:1",
            "org.opencontainers.image.ref.name": "a.example/b:1",
        },
        {"io.containerd.image.name": "a.example/b__c:1"},
    ]


def test_a_hybrid_archive_has_a_manifest_json_over_the_blobs():
    index = random_index(1)
    files = contents(written(write_oci_archive, [index.spec(("x.example/y:1",))], hybrid=True))
    [entry] = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["x.example/y:1"]
    assert files[entry["Config"]] == index.images[0].config.raw
    assert [files[path] for path in entry["Layers"]] == [
        layer.raw for layer in index.images[0].layers
    ]
    [root] = json.loads(files["index.json"])["manifests"]
    assert root["annotations"]["org.opencontainers.image.ref.name"] == "1"


def test_an_image_without_a_name_or_layers_can_be_written():
    image = random_image(1, layers=0, media="docker")
    files = contents(written(write_docker_archive, [image.spec()]))
    [entry] = json.loads(files["manifest.json"])
    assert entry["Layers"] == entry["RepoTags"] == []
    hybrid = contents(written(write_oci_archive, [image.spec()], hybrid=True))
    assert json.loads(hybrid["manifest.json"])[0]["RepoTags"] is None


def test_members_have_no_time_no_owner_and_fixed_modes():
    image = random_image(1, media="docker")
    data = written(write_docker_archive, [image.spec(("x:1",))], style="skopeo")
    assert len(data) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
            assert info.mode == (0o755 if info.isdir() else 0o777 if info.issym() else 0o644)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_the_same_images_give_the_same_file(tmp_path, compression):
    image = random_image(1)
    for name in ("one.tar", "two.tar"):
        oci_archive(tmp_path / name, {"x:1": image}, compression=compression)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_compressed_files_decompress_to_the_same_tar(tmp_path):
    tars = {}
    for compression in ("none", "gzip", "zstd"):
        with open_compressed(tmp_path / compression, compression) as out:
            write_oci_archive(out, [random_image(1).spec(("x:1",))])
        tars[compression] = (tmp_path / compression).read_bytes()
    assert gzip.decompress(tars["gzip"]) == tars["none"]
    assert zstd.decompress(tars["zstd"]) == tars["none"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gzip", "none", "zstd"]


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.tar"
    with open_compressed(path) as out:
        out.write(b"x")
        assert [each.name for each in tmp_path.iterdir()] == [".a.tar.part"]
    assert path.read_bytes() == b"x"
    with pytest.raises(KeyError), open_compressed(path) as out:
        out.write({}["the source fails"])
    assert path.read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [path]


def test_disk_errors_are_store_errors(tmp_path):
    path = tmp_path / "a.tar"
    with pytest.raises(StorageFullError), open_compressed(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StoreError) as caught, open_compressed(tmp_path / "no" / "a.tar"):
        pass
    assert caught.value.context["path"] == str(tmp_path / "no" / "a.tar")


def test_a_blob_that_is_not_what_it_says_is_not_accepted():
    good = blob_of(b"hello")
    for wrong in (b"hell", b"hello!"):
        with pytest.raises(SizeMismatchError):
            written(
                write_archive, [Member("x", Blob(good.digest, 5, lambda w=wrong: io.BytesIO(w)))]
            )
    with pytest.raises(DigestMismatchError) as caught:
        written(write_archive, [Member("x", Blob(good.digest, 5, lambda: io.BytesIO(b"hellO")))])
    assert caught.value.context["expected"] == str(good.digest)


def test_archives_can_be_written_into_a_pipe():
    spec = random_image(1).spec(("x:1",))
    pipe = WriteOnly()
    write_oci_archive(pipe, [spec])
    assert bytes(pipe.data) == written(write_oci_archive, [spec])


def test_a_name_with_a_digest_or_a_port_is_split_rightly():
    image = random_image(1, media="docker")
    names = ("h:5000/a", "h:5000/a:1", f"h/a@{image.digest}", f"h/a:2@{image.digest}")
    members = {m.name: m for m in docker_members([image.spec(names)])}
    with members["repositories"].blob.open() as source:
        repositories = json.load(source)
    assert {key: set(value) for key, value in repositories.items()} == {
        "h:5000/a": {"", "1"},
        f"h/a@{image.digest}": {""},
        "h/a": {"2"},
    }


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_a_big_archive_is_written_in_constant_memory(tmp_path, form):
    big_archive(tmp_path / "warm.tar", 1 << 20, layers=1)
    tracemalloc.start()
    try:
        made = big_archive(tmp_path / "big.tar", 64 << 20, layers=2, form=form)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    assert list(made) == ["docker.io/airside/big:1"]
    with tarfile.open(tmp_path / "big.tar") as tar:
        assert sum(info.size > 30 << 20 for info in tar) == 2


# The builders themselves


def test_images_are_the_same_for_the_same_seed():
    assert random_image(7) == random_image(7)
    assert random_image(7).digest != random_image(8).digest
    # plain and stored layers have the same digests with every library
    assert str(random_image(7).digest) == PLAIN
    assert str(random_image(7, compression="stored").digest) == STORED


PLAIN = "sha256:2b9376712eb3b607eccdeaa787824fedfc3c6e5a2226ab4db9256bbc40c9ea43"
STORED = "sha256:5efbf9b384d69846ff076b488cd0ec31dcf04b45b393447ebfe6ee060b1d2360"


@pytest.mark.parametrize("compression", ["none", "gzip", "stored", "zstd"])
def test_layers_are_real_tars_under_their_compression(compression):
    layer = random_layer("x", compression=compression)
    if compression in {"gzip", "stored"}:
        assert gzip.decompress(layer.raw) == layer.tar
    with tarfile.open(fileobj=io.BytesIO(layer.tar)) as tar:
        kinds = {info.type for info in tar}
        assert max(len(name) for name in tar.getnames()) > 100
    assert {tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE} <= kinds
    assert layer.diff_id == sha256(layer.tar)
    assert layer_of(layer.tar, compression=compression) == layer


def test_the_stored_gzip_of_nothing_is_valid():
    assert gzip.decompress(compress(b"", "stored")) == b""


def test_the_builder_leaves_out_what_it_is_told(tmp_path):
    index = random_index(1)
    path = tmp_path / "a.tar"
    made = oci_archive(path, {"x:1": index}, sparse=["linux/arm64"])
    assert made == {"docker.io/library/x:1": index.digest}
    files = contents(path.read_bytes())
    for blob in index.image("linux/arm64").blobs:
        assert f"blobs/sha256/{blob.digest.hex}" not in files
    for blob in index.image("linux/amd64").blobs:
        assert f"blobs/sha256/{blob.digest.hex}" in files
    lost = index.images[0].layers[0].digest
    oci_archive(
        path,
        {("x:1",): index},
        drop_blobs=[lost],
        hybrid=True,
        no_layout_file=True,
        null_manifests=True,
    )
    files = contents(path.read_bytes())
    assert f"blobs/sha256/{lost.hex}" not in files
    assert "oci-layout" not in files
    assert "manifest.json" in files
    assert json.loads(files["index.json"])["manifests"] is None


def test_a_layout_directory_has_the_files_of_the_archive(tmp_path):
    image = random_image(1)
    oci_archive(tmp_path / "a.tar", {"x:1": image})
    oci_layout(tmp_path / "a", {"x:1": image})
    files = contents((tmp_path / "a.tar").read_bytes())
    for name, data in files.items():
        path = tmp_path / "a" / name
        assert path.is_dir() if data is None else path.read_bytes() == data


def test_containerd_types_zstd_layers_as_gzip():
    image = random_image(1, compression="zstd")
    document = json.loads(containerd_manifest(image))
    assert document["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    assert {layer["mediaType"] for layer in document["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }


def test_an_rke2_like_set_shares_its_base_and_replaces_one_tag(tmp_path):
    made = rke2_like_set(tmp_path, layer_bytes=20_000)
    assert made.canal.path == tmp_path / CANAL
    assert made.update.path == tmp_path / "update" / CANAL
    replaced = set(made.canal.references) & set(made.update.references)
    assert replaced == {"docker.io/rancher/mirrored-pause:3.6"}
    for reference in replaced:
        assert made.canal.references[reference] != made.update.references[reference]
    bases = {image.layers[0].digest for image in made.canal.images.values()}
    assert bases == {image.layers[0].digest for image in made.update.images.values()}
    assert len(bases) == 1
    data = zstd.decompress(made.canal.path.read_bytes())
    entries = json.loads(contents(data)["manifest.json"])
    assert entries[0]["RepoTags"] == ["rancher/hardened-calico:v3.29.1-build20241211"]
    assert made.harvester.path.read_bytes()[:2] == b"\x1f\x8b"
    for one in (made.canal, made.harvester, made.update):
        assert one.references == {
            name: sha256(containerd_manifest(image)) for name, image in one.images.items()
        }


def test_hostile_tars_differ_from_a_good_one_in_their_first_member():
    good = written(
        write_docker_archive,
        [random_image("hostile", media="docker").spec(("example.com/hostile:1",))],
    )
    tars = {kind: hostile_tar(kind) for kind in HOSTILE_KINDS}
    assert len(set(tars.values())) == len(HOSTILE_KINDS)
    assert all(data.endswith(good) for data in tars.values())
    with pytest.raises(ValueError, match="nonsense"):
        hostile_tar("nonsense")


def test_files_can_be_damaged(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abcd")
    flip_bit(path, -1, 1)
    assert path.read_bytes() == b"abcf"
    truncate(path, -1)
    truncate(path, 2)
    assert path.read_bytes() == b"ab"


@pytest.mark.parametrize("compression", ["bzip2", "xz", "stored"])
def test_tests_write_compressions_that_the_writer_does_not(tmp_path, compression):
    image = random_image(1, media="docker")
    docker_archive(tmp_path / "a", {"x:1": image}, compression=compression)
    with tarfile.open(tmp_path / "a") as tar:
        assert "manifest.json" in tar.getnames()


def test_an_index_of_given_images_lists_them():
    images = [random_image(n, platform=p) for n, p in enumerate(["linux/arm/v7", "linux/386"])]
    document = json.loads(index_of(images).index.raw)
    assert [each["platform"] for each in document["manifests"]] == [
        {"architecture": "arm", "os": "linux", "variant": "v7"},
        {"architecture": "386", "os": "linux"},
    ]


def test_blobs_may_have_a_sha512_digest():
    digest = Digest("sha512", hashlib.sha512(b"x").hexdigest())
    data = written(write_archive, [Member("x", Blob(digest, 1, lambda: io.BytesIO(b"x")))])
    assert contents(data) == {"x": b"x"}
