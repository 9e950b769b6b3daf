"""Reading an archive: what is written, what is trusted, and where limits end it."""

import gzip
import io
import struct
import tarfile
import threading
import zlib

import pytest

from airside.archive.formats.oci_layout import blob_member
from airside.archive.reader import read_archive
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.member import Member, blob_of
from airside.archive.writer.oci_archive import oci_members
from airside.archive.writer.tar_stream import write_archive
from airside.core.errors import (
    ArchiveError,
    ArchiveLimitError,
    ArchiveTruncatedError,
    ArchiveUnreadableError,
    NotFoundError,
    StoppedError,
    StorageFullError,
)
from airside.core.settings import Limits
from airside.oci.digest import digest_of
from support.images import (
    compact,
    compress,
    docker_archive,
    flip_bit,
    image_of,
    index_of,
    oci_archive,
    random_image,
    random_layer,
)
from support.nodes import import_now, node_at, visible, wrong_blobs

NAME = "docker.io/library/app:1"
COMPRESSIONS = ["none", "gzip", "zstd"]


def read(node, path, *, strict=False, stop=lambda: False, progress=lambda *_: None):
    return read_archive(node.importer._reader, path, strict=strict, stop=stop, progress=progress)


def names_of(reading):
    return {str(r): i.root for i in reading.judgement.images for r in i.references}


def leftovers(node):
    return list((node.settings.data / "ingest").iterdir())


def tar_of(path, members, compression="none"):
    out = io.BytesIO()
    write_archive(out, members)
    path.write_bytes(compress(out.getvalue(), compression))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("write", [docker_archive, oci_archive])
def test_nothing_is_visible_and_nothing_left_without_a_commit(node, tmp_path, write, compression):
    image = random_image("x", media="docker" if write is docker_archive else "oci")
    expected = write(tmp_path / "a.tar", {"app:1": image}, compression=compression)
    done = []
    with read(node, tmp_path / "a.tar", progress=lambda *at: done.append(at)) as reading:
        assert names_of(reading) == expected
        assert reading.compression == compression
        assert len(leftovers(node)) >= 3
        assert not list(node.store.digests())
    assert not leftovers(node)
    assert done[-1][0] == done[-1][1]
    assert done == sorted(done)


# What is there and what can be read


def test_files_that_cannot_be_read_have_their_own_errors(node, tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ArchiveTruncatedError, match="empty"):
        read(node, tmp_path / "empty")
    with pytest.raises(NotFoundError):
        read(node, tmp_path / "absent")
    with pytest.raises(ArchiveError):
        read(node, tmp_path)


def test_a_file_that_is_forbidden_is_unreadable(node, tmp_path, monkeypatch):
    docker_archive(tmp_path / "a.tar", {"app:1": random_image("x", media="docker")})

    def forbidden(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", forbidden)
    with pytest.raises(ArchiveUnreadableError):
        read(node, tmp_path / "a.tar")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reading_stops_when_asked(node, tmp_path, compression):
    docker_archive(
        tmp_path / "a.tar", {"app:1": random_image("x", media="docker")}, compression=compression
    )
    with pytest.raises(StoppedError):
        read(node, tmp_path / "a.tar", stop=lambda: True)
    assert not leftovers(node)
    assert threading.active_count() < 10


# Trust


def held_then_changed(node, tmp_path, compression):
    """A node that holds an image, and an archive of it whose first layer has a wrong byte."""
    image = random_image("x")
    oci_archive(tmp_path / "good.tar", {"app:1": image})
    assert import_now(node, tmp_path / "good.tar").state == "imported"
    members = list(oci_members([image.spec(("app:1",))]))
    layer = image.layers[0]
    wrong = bytearray(layer.raw)
    wrong[700] ^= 1
    changed = [
        Member(m.name, blob_of(bytes(wrong))) if m.name == blob_member(layer.digest) else m
        for m in members
    ]
    tar_of(tmp_path / "bad.tar", changed, compression)
    return image


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_held_blobs_are_hashed_again(node, tmp_path, compression):
    image = held_then_changed(node, tmp_path, compression)
    outcome = import_now(node, tmp_path / "bad.tar")
    assert outcome.state == "partial"
    assert [problem.blob for problem in outcome.problems] == [str(image.layers[0].digest)]
    assert visible(node) == {NAME: image.digest}
    assert not wrong_blobs(node)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_names_of_held_blobs_are_trusted_if_set_so(tmp_path, compression):
    with node_at(tmp_path / "data", verify="names") as node:
        image = held_then_changed(node, tmp_path, compression)
        outcome = import_now(node, tmp_path / "bad.tar")
        assert outcome.state == "imported"
        assert outcome.new_blobs == 0
        assert visible(node) == {NAME: image.digest}
        assert not wrong_blobs(node)


def test_names_of_blobs_that_are_not_held_are_never_trusted(tmp_path):
    with node_at(tmp_path / "data", verify="names") as node:
        image = random_image("x")
        oci_archive(tmp_path / "a.tar", {"app:1": image})
        raw = (tmp_path / "a.tar").read_bytes()
        flip_bit(tmp_path / "a.tar", raw.index(image.layers[0].raw) + 700)
        assert import_now(node, tmp_path / "a.tar").state in {"partial", "rejected"}
        assert not visible(node)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("part", ["manifest", "config"])
def test_a_damaged_document_of_a_held_image_is_a_problem(node, tmp_path, part, compression):
    image = random_image("x")
    oci_archive(tmp_path / "good.tar", {"app:1": image})
    import_now(node, tmp_path / "good.tar")
    data = (tmp_path / "good.tar").read_bytes()
    at = data.index(getattr(image, part).raw) + 3
    damaged = bytearray(data)
    damaged[at] ^= 1
    (tmp_path / "bad.tar").write_bytes(compress(bytes(damaged), compression))
    outcome = import_now(node, tmp_path / "bad.tar")
    assert outcome.state in {"partial", "rejected"}
    assert str(getattr(image, part).digest) in {problem.blob for problem in outcome.problems}
    assert visible(node) == {NAME: image.digest}


# Diff IDs


def patched_gzip(tar):
    """One stored block with another byte, its CRC made to fit: only the diff ID can tell."""
    other = bytearray(tar)
    other[600] ^= 1
    return gzip_of(bytes(other))


def gzip_of(data):
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    body = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF) + data
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("setting", ["auto", "always", "never"])
def test_the_diff_id_vouches_for_a_compressed_layer(tmp_path, setting, compression):
    layer = random_layer("x", layer_bytes=4000, media="docker")
    wrong = type(layer)(patched_gzip(layer.tar), layer.media_type, layer.tar)
    good = type(layer)(gzip_of(layer.tar), layer.media_type, layer.tar)
    assert gzip.decompress(good.raw) == layer.tar
    images = {
        "bad:1": image_of([wrong], media="docker", label="bad"),
        "good:1": image_of([good], media="docker", label="good"),
    }
    expected = docker_archive(tmp_path / "a.tar", images, compression=compression)
    with node_at(tmp_path / "data", verify_diff_ids=setting) as node:
        outcome = import_now(node, tmp_path / "a.tar")
        if setting == "never":
            assert outcome.state == "imported"
        else:
            del expected["docker.io/library/bad:1"]
            assert outcome.state == "partial"
            assert "decompresses to" in outcome.problems[0].reason
        assert visible(node) == expected


def test_a_compressed_layer_that_is_cut_is_a_problem(node, tmp_path):
    layer = random_layer("x", media="docker")
    cut = type(layer)(gzip_of(layer.tar)[:-3], layer.media_type, layer.tar)
    docker_archive(tmp_path / "a.tar", {"bad:1": image_of([cut], media="docker")})
    outcome = import_now(node, tmp_path / "a.tar")
    assert outcome.state == "rejected"
    assert "cannot be decompressed" in outcome.reason


def test_a_blob_that_only_a_config_promises_is_read_for_what_it_is(node, tmp_path):
    """A diff ID that names a held blob of the same size: the layer is another one all the same."""
    held = random_layer("x", layer_bytes=4000)
    packed = gzip_of(bytes(len(held.raw) - 23))
    assert len(packed) == len(held.raw)
    oci_archive(tmp_path / "held.tar", {"held:1": image_of([held])})
    import_now(node, tmp_path / "held.tar")
    lying = type(held)(packed, "", held.tar)
    docker_archive(tmp_path / "a.tar", {"bad:1": image_of([lying], media="docker")})
    outcome = import_now(node, tmp_path / "a.tar")
    assert outcome.state == "rejected"
    assert "decompresses to" in outcome.reason
    assert not leftovers(node)


# Which of several


def put_first(members, name, data):
    """Another member of the same name before the right one."""
    return [Member(name, blob_of(data)), *members]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_last_member_of_a_name_wins(node, tmp_path, compression):
    image = random_image("x", media="docker")
    members = list(docker_members([image.spec(("app:1",))]))
    for name in ("manifest.json", f"{image.config.digest.hex}.json"):
        members = put_first(members, name, b"[")
    layer = next(m.name for m in members if m.name.endswith("layer.tar"))
    members = put_first(members, layer, b"x" * 3_000_000)
    tar_of(tmp_path / "a.tar", members, compression)
    outcome = import_now(node, tmp_path / "a.tar")
    assert outcome.state == "imported"
    assert list(visible(node)) == [NAME]
    assert not leftovers(node)
    tar_of(tmp_path / "b.tar", [*members, Member(layer, blob_of(b"x"))], compression)
    assert import_now(node, tmp_path / "b.tar").state == "rejected"


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_link_after_a_file_of_its_name_wins(node, tmp_path, compression):
    image = random_image("x", media="docker", layers=1)
    members = list(docker_members([image.spec(("app:1",))]))
    layer = next(m.name for m in members if m.name.endswith("layer.tar"))
    moved = [Member("moved.tar", m.blob) if m.name == layer else m for m in members]
    moved = [Member(layer, blob_of(b"x" * 2_000_000)), *moved, Member(layer, target="../moved.tar")]
    tar_of(tmp_path / "a.tar", moved, compression)
    assert import_now(node, tmp_path / "a.tar").state == "imported"
    assert not leftovers(node)


# Limits


def many_members(path):
    docker_archive(path, {"app:1": random_image("x", media="docker")})


def nested_indexes(path):
    image = random_image("x")
    inner = index_of([image])
    blobs = {b.digest: b.raw for b in image.blobs}
    raw = inner.index.raw
    for _ in range(4):
        digest = digest_of(raw)
        blobs[digest] = raw
        entry = {
            "mediaType": inner.index.media_type,
            "digest": str(digest),
            "size": len(raw),
        }
        raw = compact({"schemaVersion": 2, "manifests": [entry]})
    members = [Member(blob_member(d), blob_of(b)) for d, b in blobs.items()]
    tar_of(path, [*members, Member("index.json", blob_of(raw))])


def long_name(path):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("n" * 300))


def three_names(path):
    names = ("example.com/app:1", "example.com/app:2", "example.com/app:3")
    oci_archive(path, {names: random_image("named three times")})


def in_zstd(path):
    many_members(path)
    path.write_bytes(compress(path.read_bytes() + bytes(200_000), "zstd"))


def in_gzip(path):
    many_members(path)
    path.write_bytes(compress(path.read_bytes(), "gzip"))


@pytest.mark.parametrize(
    ("write", "limit", "value"),
    [
        (many_members, "members", 5),
        (many_members, "document_bytes", 300),
        (many_members, "blob_bytes", 9_000),
        (in_gzip, "members", 5),
        (in_gzip, "document_bytes", 300),
        (in_gzip, "blob_bytes", 9_000),
        (in_gzip, "total_bytes", 30_000),
        (nested_indexes, "nesting", 2),
        (nested_indexes, "documents_bytes", 600),
        (long_name, "name_bytes", 200),
        (many_members, "headers_bytes", 500),
        (three_names, "names", 2),
        (three_names, "descriptors", 1),
        (three_names, "records", 2),
        (in_zstd, "window_bytes", 1024),
        (in_zstd, "total_bytes", 200_000),
    ],
)
def test_every_limit_ends_the_reading_and_is_named(tmp_path, write, limit, value):
    write(tmp_path / "a.tar")
    with node_at(tmp_path / "data", limits=Limits(**{limit: value})) as node:
        with pytest.raises(ArchiveLimitError, match=f"limits.{limit}"):
            read(node, tmp_path / "a.tar")
        assert not leftovers(node)
        outcome = import_now(node, tmp_path / "a.tar")
        assert outcome.state == "rejected"
        assert f"limits.{limit}" in outcome.reason


def test_the_ratio_is_a_limit_past_its_free_part(tmp_path, monkeypatch):
    monkeypatch.setattr("airside.archive.tar.compression.RATIO_FREE_BYTES", 1 << 20)
    (tmp_path / "a.tar").write_bytes(compress(bytes(4 << 20), "gzip"))
    with (
        node_at(tmp_path / "data", limits=Limits(ratio=10)) as node,
        pytest.raises(ArchiveLimitError, match=r"limits\.ratio"),
    ):
        read(node, tmp_path / "a.tar")


def test_every_limit_has_a_test_here():
    tested = {"members", "document_bytes", "blob_bytes", "total_bytes", "nesting", "name_bytes"}
    tested |= {"window_bytes", "ratio", "documents_bytes", "headers_bytes"}
    tested |= {"names", "descriptors", "records"}
    of_lists = {"list_bytes", "list_lines"}  # test_lists, test_lists_read
    of_directories = {"archives", "watches"}  # test_watch_bounds
    of_registry = {"uploads", "client_uploads", "upload_bytes"}  # test_pushing
    of_upstreams = {"fetches"}  # test_pull_through
    of_page = {"archive_uploads", "archive_upload_bytes"}  # test_archive_uploads
    elsewhere = of_lists | of_directories | of_registry | of_upstreams | of_page
    assert tested | elsewhere == set(Limits.__dataclass_fields__)


# Space


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_too_little_space_is_told_before_it_is_used(tmp_path, compression):
    docker_archive(
        tmp_path / "a.tar", {"app:1": random_image("x", media="docker")}, compression=compression
    )
    with node_at(tmp_path / "data", min_free_bytes=1 << 60) as node:
        with pytest.raises(StorageFullError, match="min_free_bytes"):
            read(node, tmp_path / "a.tar")
        assert not leftovers(node)


def test_an_archive_that_was_cut_behind_its_manifest_waits_for_the_rest(node, tmp_path):
    """Two images, the list of images first: cut at a member's end, one image is whole."""
    path = tmp_path / "a.tar"
    specs = [
        random_image(1).spec(("example.com/one:1",)),
        random_image(2).spec(("example.com/two:1",)),
    ]
    members = list(docker_members(specs))
    first = [m for m in members if m.name == "manifest.json"]
    rest = [m for m in members if m.name not in {"manifest.json", "repositories"}]
    there = [*first, *rest[:-1]]
    tar_of(path, there)
    sizes = [each.blob.size_bytes if each.blob else 0 for each in there]
    with path.open("r+b") as file:  # without the end blocks
        file.truncate(sum(512 + -(-size // 512) * 512 for size in sizes))
    with pytest.raises(ArchiveTruncatedError):
        read(node, path).close()
