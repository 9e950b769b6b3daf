"""Lists of checksums beside archives are used: before, with and after the archive."""

import asyncio
import hashlib
import os

import pytest

from airside.cli.inspect_archive import inspect_file
from airside.core.settings import Settings, WatchedDirectory
from support.images import oci_archive, random_image, truncate
from support.nodes import import_now, node_at, visible
from support.queues import running

APP = "docker.io/library/app:1"
NAME = "images.tar"
TIMES = {"settle_seconds": 0.05, "quiet_seconds": 0.1, "removal_seconds": 0.1}


@pytest.fixture
def images(tmp_path):
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def node(tmp_path, images):
    with node_at(tmp_path / "data", images=(WatchedDirectory(images),), **TIMES) as node:
        yield node


@pytest.fixture
def archive(images):
    oci_archive(images / NAME, {"app:1": random_image("a")})
    return images / NAME


def digest_of(path, algorithm="sha256"):
    return hashlib.new(algorithm, path.read_bytes()).hexdigest()


FORMS = [
    ("SHA256SUMS", "sha256", "{digest}  images.tar\n"),
    ("SHA256SUMS", "sha256", "{digest} *images.tar\r\n"),
    ("sha256sum-amd64.txt", "sha256", "{other}  k3s\n{digest}  ./images.tar\n"),
    ("hashes.txt", "sha256", "{digest}  /build/dist/images.tar\n"),
    ("hashes", "sha256", "SHA256 (images.tar) = {digest}\n"),
    ("images.tar.sha256", "sha256", "{digest}\n"),
    ("images.tar.sha256sum", "sha256", "{digest}  elsewhere/images.tar\n"),
    ("images.tar.sha512", "sha512", "{digest}  images.tar"),
    ("B2SUMS", "blake2b", "{digest}  images.tar\n"),
    ("checksums.txt", "blake2b", "{digest}  images.tar\n"),
    ("images.tar.md5", "md5", "{digest}  images.tar\n"),
    ("images.tar.sha1", "sha1", "{digest}  images.tar\n"),
    ("images.tar.sha256", "sha256", "{digest}  -\n"),
    ("images.tar.sha256", "sha256", "sha256:{digest}\n"),
    ("images.tar.digest", "sha256", "sha256:{digest}  images.tar\n"),
]


@pytest.mark.parametrize(("name", "algorithm", "text"), FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_that_names_the_archive_is_compared(
    images, archive, name, algorithm, text, encoding
):
    digest, other = digest_of(archive, algorithm), "0" * 64
    (images / name).write_bytes(text.format(digest=digest, other=other).encode(encoding))
    item = inspect_file(Settings(), archive, quiet=True)
    assert item["state"] == "imported"
    assert f"{name!r} lists its digest: {digest}" in item["notes"]

    wrong = digest[1:] + ("0" if digest[0] != "0" else "1")
    (images / name).write_bytes(text.format(digest=wrong, other=other).encode(encoding))
    item = inspect_file(Settings(), archive, quiet=True)
    [problem] = item["problems"]
    assert (item["state"], item["error"]["code"]) == ("rejected", "checksum_mismatch")
    assert item["error"]["expected"] == wrong
    assert wrong in problem["reason"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SHA256SUMS", "{wrong}  other.tar\n"),
        ("other.tar.sha256", "{wrong}\n"),
        ("images.tar.b3", "{wrong}  images.tar\n"),
        ("notes.md", "{wrong}  images.tar\n"),
        (".SHA256SUMS", "{wrong}  images.tar\n"),
    ],
)
def test_another_list_is_compared_with_nothing(images, archive, name, text):
    (images / name).write_text(text.format(wrong="0" * 64))
    assert inspect_file(Settings(), archive, quiet=True)["state"] == "imported"


def test_one_of_two_digests_of_a_name_is_enough_and_the_exact_name_counts_first(images, archive):
    lines = f"{'0' * 64}  v1/{NAME}\n{digest_of(archive)}  v2/{NAME}\n"
    (images / "SHA256SUMS").write_text(lines)
    assert inspect_file(Settings(), archive, quiet=True)["state"] == "imported"
    (images / "SHA256SUMS").write_text(f"{lines}{'0' * 64}  {NAME}\n")
    assert inspect_file(Settings(), archive, quiet=True)["state"] == "rejected"


def test_a_digest_of_a_file_in_a_directory_beside_the_list_is_of_that_file(images, archive):
    (images / "SHA256SUMS").write_text(f"{'0' * 64}  old/{NAME}\n")
    assert inspect_file(Settings(), archive, quiet=True)["state"] == "rejected"
    (images / "old").mkdir()
    (images / "old" / NAME).write_bytes(b"")
    assert inspect_file(Settings(), archive, quiet=True)["state"] == "imported"


def split(archive):
    data = archive.read_bytes()
    archive.unlink()
    parts = [archive.with_name(f"{NAME}.{end}") for end in ("aa", "ab")]
    parts[0].write_bytes(data[:1000])
    parts[1].write_bytes(data[1000:])
    return parts


def test_a_list_of_the_parts_of_an_archive_is_compared_with_each(images, archive):
    parts = split(archive)
    lines = [f"{digest_of(part)}  {part.name}\n" for part in parts]
    (images / "SHA256SUMS").write_text("".join(lines))
    item = inspect_file(Settings(), parts[0], quiet=True)
    assert item["state"] == "imported"
    assert [part.name for part in parts if any(part.name in note for note in item["notes"])] == [
        part.name for part in parts
    ]
    (images / "SHA256SUMS").write_text(lines[0] + f"{'0' * 64}  {parts[1].name}\n")
    [problem] = inspect_file(Settings(), parts[0], quiet=True)["problems"]
    assert parts[1].name in problem["reason"]
    assert digest_of(parts[1]) in problem["reason"]


@pytest.mark.parametrize("named", [NAME, f"{NAME}.aa", f"{NAME}.ab"])
def test_a_list_that_comes_after_an_archive_in_parts_is_used(node, images, archive, named):
    parts = split(archive)

    async def drop():
        async with running(node) as run:
            await run.state(parts[0], "imported")
            (images / "SHA256SUMS").write_text(f"{'0' * 64}  {named}\n")
            await run.state(parts[0], "rejected")

    asyncio.run(drop())


def test_an_archive_that_ends_early_is_incomplete_whatever_a_list_says(images, archive):
    (images / "SHA256SUMS").write_text(f"{digest_of(archive)}  {NAME}\n")
    truncate(archive, archive.stat().st_size // 2)
    assert inspect_file(Settings(), archive, quiet=True)["state"] == "incomplete"


def test_a_list_explains_what_else_is_wrong(images, archive):
    (images / "SHA256SUMS").write_text(f"{digest_of(archive)}  {NAME}\n")
    archive.write_bytes(b"<html>no</html>" + bytes(600))
    [problem] = inspect_file(Settings(), archive, quiet=True)["problems"]
    assert "SHA256SUMS" in problem["reason"]
    assert "web page" in problem["reason"]


def test_a_list_outside_the_watched_directory_is_not_read(images, archive, tmp_path):
    (tmp_path / "sums").write_text(f"{'0' * 64}  {NAME}\n")
    (images / "SHA256SUMS").symlink_to(tmp_path / "sums")
    os.mkfifo(images / "images.tar.sha256")
    (images / "checksums.txt").mkdir()
    directory = WatchedDirectory(images, links="inside")
    with node_at(tmp_path / "other", images=(directory,), **TIMES) as other:
        assert import_now(other, archive).state == "imported"


def test_a_list_that_comes_with_the_archive_is_used(node, images, archive):
    (images / "SHA256SUMS").write_text(f"{'0' * 64}  {NAME}\n")

    async def drop():
        async with running(node) as run:
            row = await run.state(archive, "rejected")
            await run.state(images / "SHA256SUMS", "ignored")
            assert "0" * 64 in row.reason
            assert digest_of(archive) in row.reason
            assert not visible(node)

    asyncio.run(drop())


def test_a_list_that_comes_later_changes_or_goes_is_used(node, images, archive):
    listed = images / "SHA256SUMS"

    async def drop():
        async with running(node) as run:
            await run.state(archive, "imported")
            listed.write_text(f"{'0' * 64}  {NAME}\n")
            row = await run.state(archive, "rejected")
            assert "the images that were imported from it before stay" in row.reason
            assert list(visible(node)) == [APP]
            listed.write_text(f"{digest_of(archive)}  {NAME}\n")
            row = await run.state(archive, "imported")
            assert any("lists its digest" in note for note in row.notes)
            listed.write_text(f"{'0' * 64}  {NAME}\n")
            await run.state(archive, "rejected")
            listed.unlink()
            await run.state(archive, "imported")

    asyncio.run(drop())


def test_an_archive_that_a_later_list_confirms_is_not_imported_again(node, images, archive):
    async def drop():
        async with running(node) as run:
            await run.state(archive, "imported")
            (images / "SHA256SUMS").write_text(f"{digest_of(archive)}  {NAME}\n")
            await run.state(images / "SHA256SUMS", "ignored")
            await run.until(lambda: not run.queue.queued and not run.queue.running)

    asyncio.run(drop())
    kinds = [e.kind for e in node.catalog.events(limit=100) if e.path == str(archive)]
    assert kinds.count("imported") == 1
