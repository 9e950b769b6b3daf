"""Tars joined in one file, and tables that a tar has twice."""

import gzip
import io
from dataclasses import replace

import pytest

from airside.archive.formats.tables import MOST_OLDER, is_table, older_name, views_of
from airside.archive.reader import read_archive
from airside.archive.sources import Reader
from airside.archive.tar.window_budget import WindowBudget
from airside.archive.writer.docker_archive import docker_members
from airside.archive.writer.tar_stream import write_archive
from airside.core.errors import ArchiveTruncatedError, InputError
from airside.core.settings import Settings
from airside.oci.digest import Digest
from airside.store.hash_only import HashOnlyStore
from support.images import compact, compress, random_image
from support.makers import file, jib_members, layout_members, named

ONE, TWO = random_image("one", layer_bytes=300), random_image("two", layer_bytes=300)
FIRST, SECOND = "a.b/one:1", "a.b/two:1"


def layout(image, name):
    return layout_members([named(image.manifest, name)], image.blobs)


def tar_of(members):
    out = io.BytesIO()
    write_archive(out, members)
    return out.getvalue()


def read(directory, data):
    """(names with their digests, problems, notes) of a file."""
    path = directory / "archive.tar"
    path.write_bytes(data)
    settings = replace(Settings(), verify_diff_ids="never")
    reader = Reader(HashOnlyStore(settings.limits), settings, WindowBudget(1 << 28), _nothing)
    with read_archive(
        reader, path, strict=False, stop=lambda: False, progress=lambda *_: None
    ) as reading:
        names = {str(r): i.root for i in reading.judgement.images for r in i.references}
        return names, reading.judgement.problems, reading.notes


def _nothing(_digest: Digest) -> None:
    return None


BOTH = {FIRST: ONE.digest, SECOND: TWO.digest}
PARTS = [tar_of(layout(ONE, FIRST)), tar_of(layout(TWO, SECOND))]


@pytest.mark.parametrize(
    "data",
    [
        b"".join(PARTS),
        bytes(10240).join(PARTS),
        b"".join(map(gzip.compress, PARTS)),
        b"".join(compress(part, "zstd") for part in PARTS),
        gzip.compress(b"".join(PARTS)),
        PARTS[0] + PARTS[1] + bytes(512),
        PARTS[0] + tar_of([file("README", b"no images")]) + PARTS[1],
    ],
    ids=["plain", "padded", "gzip members", "zstd frames", "within gzip", "zeros", "three"],
)
def test_every_tar_of_a_file_is_read(tmp_path, data):
    names, problems, notes = read(tmp_path, data)
    assert (names, problems) == (BOTH, ())
    assert any("joined in the file: each is read" in note for note in notes)


def test_ten_tars_are_read_in_their_order_and_the_last_of_one_name_counts(tmp_path):
    images = [random_image(f"many {n}", layer_bytes=100) for n in range(12)]
    data = b"".join(tar_of(layout(image, "a.b/same:1")) for image in images)
    names, problems, _ = read(tmp_path, data)
    assert (names, problems) == ({"a.b/same:1": images[-1].digest}, ())


def test_members_with_one_name_in_two_tars_are_not_mixed_up(tmp_path):
    """Jib calls each config `config.json`."""
    images = [random_image(n, layer_bytes=100, media="docker", compression="gzip") for n in "ab"]
    data = b"".join(tar_of(jib_members([f"a.b/{n}:1"], image)) for n, image in enumerate(images))
    names, problems, _ = read(tmp_path, data)
    assert (set(names), problems) == ({"a.b/0:1", "a.b/1:1"}, ())
    assert len(set(names.values())) == 2


def test_a_layout_and_a_docker_archive_are_both_read(tmp_path):
    docker = random_image("d", layer_bytes=100, media="docker")
    data = PARTS[0] + tar_of(docker_members([docker.spec((SECOND,))]))
    names, problems, _ = read(tmp_path, data)
    assert (set(names), problems) == ({FIRST, SECOND}, ())


def test_a_damaged_tar_among_them_is_a_problem(tmp_path):
    bad = tar_of([*layout(TWO, SECOND)[:-1], file("index.json", b"{")])
    names, problems, _ = read(tmp_path, PARTS[0] + bad)
    assert names == {FIRST: ONE.digest}
    assert ["tar 2" in problem.reason for problem in problems] == [True]


@pytest.mark.parametrize("packed", [False, True])
def test_a_last_tar_that_ends_early_makes_the_file_incomplete(tmp_path, packed):
    data = PARTS[0] + PARTS[1][:3000]
    with pytest.raises(ArchiveTruncatedError):
        read(tmp_path, gzip.compress(data) if packed else data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (PARTS[0] + gzip.compress(PARTS[1]), "gzip"),
        (gzip.compress(PARTS[0]) + PARTS[1], "a tar"),
        (gzip.compress(PARTS[0]) + compress(PARTS[1], "zstd"), "zstd"),
    ],
    ids=["gzip", "a tar", "zstd"],
)
def test_an_archive_that_follows_in_another_compression_is_a_problem(tmp_path, data, what):
    names, problems, _ = read(tmp_path, data)
    assert names == {FIRST: ONE.digest}
    [problem] = problems
    assert what in problem.reason
    assert "file of its own" in problem.reason


@pytest.mark.parametrize("rest", [b"x" * 700, b"\0" * 512 + b"pixz", b"\1" * 512])
def test_other_bytes_after_a_tar_are_a_note(tmp_path, rest):
    names, problems, notes = read(tmp_path, PARTS[0] + rest)
    assert (names, problems) == ({FIRST: ONE.digest}, ())
    assert "other bytes follow" in notes[0]


@pytest.mark.parametrize("packed", [False, True])
def test_images_of_a_tar_that_was_appended_to_another_are_read(tmp_path, packed):
    """`tar -A`: one end, and every table twice."""
    data = tar_of([*layout(ONE, FIRST), *layout(TWO, SECOND)])
    names, problems, notes = read(tmp_path, gzip.compress(data) if packed else data)
    assert (names, problems) == (BOTH, ())
    assert "an earlier table of the tar lists 1 images" in notes[-1]


def test_a_table_that_was_replaced_names_its_images_anew(tmp_path):
    """`tar -r`: the last table counts for each image that it lists."""
    members = [*layout(ONE, FIRST), layout(ONE, "a.b/new:1")[-1]]
    assert read(tmp_path, tar_of(members)) == ({"a.b/new:1": ONE.digest}, (), [])


def test_a_table_that_was_replaced_because_it_is_bad_says_nothing(tmp_path):
    members = layout(ONE, FIRST)
    assert read(tmp_path, tar_of([file("index.json", b"{"), *members]))[:2] == (
        {FIRST: ONE.digest},
        (),
    )


def test_of_many_versions_of_a_table_the_latest_are_kept(tmp_path):
    versions = [layout(ONE, f"a.b/v{n}:1")[-1] for n in range(3 * MOST_OLDER)]
    names, problems, _ = read(tmp_path, tar_of([*layout(ONE, FIRST), *versions]))
    assert (names, problems) == ({f"a.b/v{len(versions) - 1}:1": ONE.digest}, ())


def test_very_many_tars_without_images_are_not_told_one_by_one(tmp_path):
    empty = tar_of([file("readme", b"")])
    names, problems, notes = read(tmp_path, PARTS[0] + empty * 100)
    assert (list(names), problems) == ([FIRST], ())
    assert len(notes) < 30
    assert "80 more of them hold no images" in notes


def test_a_file_whose_tars_hold_no_images_is_refused(tmp_path):
    data = tar_of([file("README", b"x")])
    with pytest.raises(InputError, match="holds no images"):
        read(tmp_path, data + data)


def test_views():
    names = ["index.json", "tar 10//a", "tar 2//images/index.json", "tar 2//images/oci-layout"]
    names += [older_name("index.json", 1), older_name("tar 2//images/index.json", 3)]
    notes = []
    first, second, tenth = views_of(names, {"tar 2//images/x": "tar 2//images/y"}, notes)
    assert (first.keys, first.older) == ({"index.json": names[0]}, {1: {"index.json": names[4]}})
    assert second.keys == {"index.json": names[2], "oci-layout": names[3]}
    assert (second.links, second.older) == ({"x": "y"}, {3: {"index.json": names[5]}})
    assert tenth.keys == {"a": "tar 10//a"}
    assert is_table("tar 2//manifest.json")
    assert not is_table("blobs/index.jsonx")
    assert compact(notes)
