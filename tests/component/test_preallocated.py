"""Copies that have their full size before their bytes: incomplete while they move."""

import asyncio
import os
import time

import pytest

from airside.cli.inspect_archive import inspect_file
from airside.core.settings import Settings, WatchedDirectory
from support.images import compress, oci_archive, random_image
from support.nodes import node_at, visible
from support.queues import running

APP = "docker.io/library/app:1"
TIMES = {"settle_seconds": 0.02, "quiet_seconds": 0.05, "removal_seconds": 0.1}
COMPRESSIONS = ("none", "gzip", "zstd", "xz", "lz4", "bzip2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.tar"
    oci_archive(path, {"app:1": random_image("a", layer_bytes=200_000)})
    return path.read_bytes()


def started(path, data, share):
    """A copy into allocated space, of which a part was written."""
    count = int(len(data) * share)
    path.write_bytes(data[:count] + bytes(len(data) - count))


def write_over(path, data):
    with path.open("r+b") as file:
        file.write(data)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_zeros_in_place_of_bytes_are_incomplete_while_the_file_is_young(
    tmp_path, whole, compression, share
):
    path = tmp_path / "a.tar"
    started(path, compress(whole, compression), share)
    item = inspect_file(Settings(), path, quiet=True)
    assert item["state"] == "incomplete", item["problems"]
    old = time.time() - Settings().incomplete_seconds - 10
    os.utime(path, (old, old))  # the change time stays that of now
    assert inspect_file(Settings(), path, quiet=True)["state"] == "incomplete"
    settings = Settings(incomplete_seconds=0.0)
    assert inspect_file(settings, path, quiet=True)["state"] in ("rejected", "incomplete")


def test_zeros_of_an_old_file_are_rejected(tmp_path, whole):
    started(tmp_path / "a.tar", whole, 0.5)
    item = inspect_file(Settings(incomplete_seconds=0.0), tmp_path / "a.tar", quiet=True)
    assert item["state"] == "rejected"


def test_a_hole_of_a_young_file_is_incomplete(tmp_path, whole):
    data = compress(whole, "gzip")
    with (tmp_path / "a.tar.gz").open("wb") as file:
        file.write(data[:65536])
        file.seek(131072)
        file.write(data[131072:])
    holes = (tmp_path / "a.tar.gz").stat().st_blocks * 512 < len(data)
    state = inspect_file(Settings(), tmp_path / "a.tar.gz", quiet=True)["state"]
    assert state == ("incomplete" if holes else "rejected")


def test_a_file_that_aria2_still_downloads_is_incomplete(tmp_path, whole):
    data = bytearray(compress(whole, "gzip"))
    data[5000:5010] = bytes(10)
    (tmp_path / "a.tar.gz").write_bytes(data)
    assert inspect_file(Settings(), tmp_path / "a.tar.gz", quiet=True)["state"] == "rejected"
    (tmp_path / "a.tar.gz.aria2").write_bytes(b"\0\1")
    item = inspect_file(Settings(), tmp_path / "a.tar.gz", quiet=True)
    assert item["state"] == "incomplete"
    assert "aria2" in item["problems"][0]["reason"]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_damaged_archive_without_zeros_is_rejected(tmp_path, whole, compression):
    data = bytearray(compress(whole, compression))
    data[3000:3010] = b"\xaa" * 10
    (tmp_path / "a.tar").write_bytes(data)
    assert inspect_file(Settings(), tmp_path / "a.tar", quiet=True)["state"] == "rejected"


def test_a_preallocated_copy_is_imported_when_it_is_complete(tmp_path, whole):
    images = tmp_path / "images"
    images.mkdir()
    path = images / "a.tar"
    started(path, whole, 0.2)

    async def copy(node):
        async with running(node) as run:
            row = await run.state(path, "incomplete")
            assert "zeros" in row.reason
            write_over(path, whole)
            await run.state(path, "imported")
            assert list(visible(node)) == [APP]

    with node_at(tmp_path / "data", images=(WatchedDirectory(images),), **TIMES) as node:
        asyncio.run(copy(node))


def test_a_copy_whose_blocks_move_is_read_again_though_its_times_stay(tmp_path, whole, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    path = images / "a.tar"
    started(path, whole, 0.2)
    blocks = iter(range(1_000_000))
    monkeypatch.setattr("airside.agent.import_queue.blocks_of", lambda *_: next(blocks))
    reads = []

    async def copy(node):
        run_now = node.imports.run

        def counted(*values, **named):
            reads.append(values)
            return run_now(*values, **named)

        monkeypatch.setattr(node.imports, "run", counted)
        async with running(node) as run:
            await run.state(path, "incomplete")
            await run.until(lambda: len(reads) >= 3)
            await run.state(path, "incomplete")

    changes = {**TIMES, "retry_seconds": 0.05}
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),), **changes) as node:
        asyncio.run(copy(node))
