"""Archives in parts: waited for, read in order as one file, the missing part named."""

import asyncio
import hashlib
import json

import pytest

from airside.cli.inspect_archive import inspect_file
from airside.core.settings import Settings, WatchedDirectory
from support.images import compress, oci_archive, random_image
from support.nodes import import_now, node_at, visible
from support.queues import running

APP = "docker.io/library/app:1"
TIMES = {"settle_seconds": 0.02, "quiet_seconds": 0.05, "removal_seconds": 0.1}
STYLES = {
    "split": ("images.tar.aa", "images.tar.ab", "images.tar.ac"),
    "hauler": ("haul.tar.zst.001", "haul.tar.zst.002", "haul.tar.zst.003"),
    "part": ("images.tar.part1", "images.tar.part2", "images.tar.part3"),
    "suffix": ("images.part-01-of-03.tar", "images.part-02-of-03.tar", "images.part-03-of-03.tar"),
    "zip": ("images.z01", "images.z02", "images.z03"),
}
COMPRESSIONS = ("none", "gzip", "zstd")


@pytest.fixture
def images(tmp_path):
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.tar"
    oci_archive(path, {"app:1": random_image("a")})
    return path.read_bytes()


def pieces(data, count=3):
    size = -(-len(data) // count)
    return [data[n * size : (n + 1) * size] for n in range(count)]


def put(directory, names, data):
    for name, piece in zip(names, pieces(data, len(names)), strict=True):
        (directory / name).write_bytes(piece)


def reason_of(item):
    return " ".join(problem["reason"] for problem in item["problems"])


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("style", STYLES)
def test_the_parts_are_read_as_one_archive_by_any_of_their_names(images, whole, style, compression):
    names = STYLES[style]
    put(images, names, compress(whole, compression))
    for name in names:
        item = inspect_file(Settings(), images / name, quiet=True)
        assert (item["state"], item["path"]) == ("imported", str(images / name))
        assert f"read from 3 parts, {names[0]!r} to {names[2]!r}" in item["notes"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("gone", [0, 1, 2])
@pytest.mark.parametrize("style", STYLES)
def test_a_missing_part_is_named(images, whole, style, gone, compression):
    names = STYLES[style]
    put(images, names, compress(whole, compression))
    (images / names[gone]).unlink()
    item = inspect_file(Settings(), images / names[1 if gone != 1 else 0], quiet=True)
    assert item["state"] == "incomplete"
    assert f"is missing: {names[gone]!r}" in reason_of(item)


def test_a_single_later_part_is_told(images, whole):
    (images / "images.tar.ac").write_bytes(compress(whole, "gzip")[100:300])
    item = inspect_file(Settings(), images / "images.tar.ac", quiet=True)
    assert (item["state"], "'images.tar.aa'" in reason_of(item)) == ("incomplete", True)


def test_a_whole_archive_with_the_name_of_a_part_is_read(images, whole):
    for name in ("images.tar.2026", "images.tar.001"):
        (images / name).write_bytes(whole)
        assert inspect_file(Settings(), images / name, quiet=True)["state"] == "imported"


def test_the_first_part_of_zarf_says_how_many_follow(images, whole):
    names = [f"zarf-package-x.tar.zst.part00{n}" for n in range(4)]
    data = compress(whole, "zstd")
    put(images, names[1:], data)
    about = {"sha256Sum": hashlib.sha256(data).hexdigest(), "bytes": len(data), "count": 3}
    (images / names[0]).write_text(json.dumps(about))
    assert inspect_file(Settings(), images / names[0], quiet=True)["state"] == "imported"
    (images / names[3]).unlink()
    item = inspect_file(Settings(), images / names[1], quiet=True)
    assert (item["state"], repr(names[3]) in reason_of(item)) == ("incomplete", True)


def test_parts_with_the_names_of_whole_archives_are_told_what_to_do(images, whole):
    names = ["haul_0.tar.zst", "haul_1.tar.zst"]
    put(images, names, compress(whole, "zstd"))
    for name, state in zip(names, ("incomplete", "rejected"), strict=True):
        item = inspect_file(Settings(), images / name, quiet=True)
        assert item["state"] == state
        assert f"rename it to 'haul.tar.zst.00{name[5]}'" in reason_of(item)
    for name in names:
        (images / name).rename(images / f"haul.tar.zst.00{name[5]}")
    item = inspect_file(Settings(), images / "haul.tar.zst.000", quiet=True)
    assert item["state"] == "imported"


def test_a_damaged_archive_with_a_number_is_no_part_when_it_is_alone(images, whole):
    (images / "app_1.tar").write_bytes(whole[: len(whole) // 2])
    item = inspect_file(Settings(), images / "app_1.tar", quiet=True)
    assert (item["state"], "rename" in reason_of(item)) == ("incomplete", False)


def test_a_checksum_of_the_joined_file_is_compared(images, whole):
    put(images, STYLES["split"], whole)
    digest = hashlib.sha256(whole).hexdigest()
    (images / "SHA256SUMS").write_text(f"{digest}  images.tar\n")
    assert inspect_file(Settings(), images / "images.tar.aa", quiet=True)["state"] == "imported"
    (images / "SHA256SUMS").write_text(f"{'0' * 64}  images.tar\n")
    item = inspect_file(Settings(), images / "images.tar.aa", quiet=True)
    assert (item["state"], digest in reason_of(item)) == ("rejected", True)


def test_a_part_that_leads_out_of_the_directory_is_refused(tmp_path, images, whole):
    put(images, STYLES["split"], whole)
    (images / "images.tar.ab").rename(tmp_path / "secret")
    (images / "images.tar.ab").symlink_to(tmp_path / "secret")
    directory = WatchedDirectory(images, links="inside")
    with node_at(tmp_path / "data", images=(directory,), **TIMES) as node:
        outcome = import_now(node, images / "images.tar.aa")
        assert outcome.state != "imported"
        assert not visible(node)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_parts_that_come_one_after_the_other_are_one_archive(tmp_path, images, whole, order):
    names = STYLES["split"]
    first = images / names[0]

    async def drop(node):
        async with running(node) as run:
            for count, number in enumerate(order):
                (images / names[number]).write_bytes(pieces(whole)[number])
                if count < 2:
                    there = images / min(names[n] for n in order[: count + 1])
                    row = await run.state(there, "incomplete")
                    assert "is missing" in row.reason
            row = await run.state(first, "imported")
            assert row.size_bytes == len(whole)
            await run.until(lambda: len(present(node)) == 1)
            assert list(visible(node)) == [APP]
            (images / names[1]).unlink()
            row = await run.state(first, "incomplete")
            assert repr(names[1]) in row.reason

    with node_at(tmp_path / "data", images=(WatchedDirectory(images),), **TIMES) as node:
        asyncio.run(drop(node))


def present(node):
    return [row.path for row in node.catalog.sources() if row.state != "removed"]


@pytest.mark.parametrize("copy", [False, True])
def test_unchanged_parts_are_not_read_again_after_a_restart(tmp_path, images, whole, copy):
    names = STYLES["hauler"]
    put(images, names, compress(whole, "zstd"))
    directory = WatchedDirectory(images, copy=copy)

    async def once(node):
        async with running(node) as run:
            await run.state(images / names[0], "imported")
            await run.until(lambda: not run.queue.queued and not run.queue.running)

    for _ in range(2):
        with node_at(tmp_path / "data", images=(directory,), **TIMES) as node:
            asyncio.run(once(node))
            kinds = [event.kind for event in node.catalog.events(limit=100)]
            assert kinds.count("imported") == 1
