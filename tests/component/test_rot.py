"""Rot in the store: true bytes that come replace it, and it is never sent as a whole answer."""

import asyncio
import errno
import http.client
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import Mock

import pytest

from airside.agent.node import Node
from airside.containerd.adopt import Adopter, LabelledBlob
from airside.containerd.content_directory import ContentDirectory
from airside.core.errors import StoppedError, StoreError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import Descriptor
from airside.registry.http import blob_response
from airside.registry.http.blob_guard import BlobGuard
from airside.registry.rules.names import Name
from airside.store.verified import VerifiedFiles
from support.connected import connect_copies
from support.copies import DirectoryCopies
from support.images import TestImage, oci_archive, random_image
from support.nodes import import_now, node_at, visible, wrong_blobs
from support.pushing import push_blob, push_image
from support.served import Served, served_node
from support.waiting import LIMIT_SECONDS, wait_until

OWN = Name("team/app")
MIB = 1024 * 1024


def flip(path: Path) -> None:
    """As a disk does: in place, and in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


DAMAGES = {"flipped": flip, "cut": cut, "grown": grow}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with node_at(tmp_path / "data", push="all") as node:
        yield node


def rot(node: Node, image: TestImage, damage: str) -> None:
    for blob in image.blobs:
        DAMAGES[damage](node.store.path(blob.digest))
    assert len(wrong_blobs(node)) == len({blob.digest for blob in image.blobs})


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_push_replaces_wrong_blobs_by_its_own_bytes(damage: str, node: Node) -> None:
    image = random_image(1)
    push_image(node, OWN, image, "1")
    rot(node, image, damage)
    push_image(node, OWN, image, "1")
    assert wrong_blobs(node) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_drop_replaces_wrong_blobs_by_its_own_bytes(
    damage: str, node: Node, tmp_path: Path
) -> None:
    image = random_image(1)
    names = oci_archive(tmp_path / "a.tar", {"example.com/app:1": image})
    import_now(node, tmp_path / "a.tar")
    rot(node, image, damage)
    assert import_now(node, tmp_path / "a.tar").state == "imported"
    assert wrong_blobs(node) == []
    assert visible(node) == names


def test_wrong_blobs_that_cannot_be_linked_are_replaced_too(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on vfat, and as Linux protects root's files from other users (protected_hardlinks)."""
    image = random_image(1)
    push_image(node, OWN, image, "1")
    rot(node, image, "flipped")
    monkeypatch.setattr(
        Path, "hardlink_to", Mock(side_effect=PermissionError(errno.EPERM, "refused"))
    )
    push_image(node, OWN, image, "1")
    assert wrong_blobs(node) == []
    assert len(list((node.settings.data / "quarantine").iterdir())) == len(image.blobs)


def test_the_hard_link_of_a_runtime_is_replaced_too(node: Node, tmp_path: Path) -> None:
    image = random_image(1)
    push_image(node, OWN, image, "1")
    layer = image.layers[0]
    copies = DirectoryCopies(tmp_path / "content", node.store)
    copies.link(layer.digest)
    connect_copies(node, copies)
    flip(node.store.path(layer.digest))
    told: list[str] = []
    node.store.replaced.subscribe(lambda: told.append("replaced"))
    push_blob(node, OWN, layer.raw)
    assert told == ["replaced"]
    node.scrub.repair.mend_all(everything=True)
    assert copies.path(layer.digest).samefile(node.store.path(layer.digest))
    assert digest_of(copies.path(layer.digest).read_bytes()) == layer.digest
    assert not (tmp_path / "data/quarantine").exists()


def test_what_is_right_and_comes_again_keeps_its_file(node: Node) -> None:
    image = random_image(1)
    push_image(node, OWN, image, "1")
    inode = node.store.path(image.layers[0].digest).stat().st_ino
    node.store.verified = VerifiedFiles()  # as after a restart
    push_image(node, OWN, image, "1")
    assert node.store.path(image.layers[0].digest).stat().st_ino == inode


def whole_answer(registry: Served, digest: Digest, **headers: str) -> bytes | int | None:
    """The body of a 200 or 206 that came whole, else the status; None for a cut connection."""
    with closing(http.client.HTTPConnection(registry.address, timeout=LIMIT_SECONDS)) as link:
        link.request("GET", f"/v2/team/app/blobs/{digest}", headers=headers)
        answer = link.getresponse()
        try:
            body = answer.read()
        except (http.client.IncompleteRead, ConnectionError):
            return None
        return body if answer.status in {200, 206} else answer.status


@pytest.mark.parametrize("size", [20_000, 3 * MIB])
@pytest.mark.parametrize("damage", DAMAGES)
def test_wrong_bytes_are_never_a_whole_answer(damage: str, size: int, node: Node) -> None:
    raw = os.urandom(size)
    digest, told = push_blob(node, OWN, raw), []
    with served_node(node, told.append) as registry:
        assert whole_answer(registry, digest) == raw
        DAMAGES[damage](node.store.path(digest))
        seen_at_once = size < MIB or damage != "flipped"
        assert whole_answer(registry, digest) == (404 if seen_at_once else None)
        found = whole_answer(registry, digest, Range=f"bytes={size // 4}-{size // 4 + 99}")
        assert found == (503 if seen_at_once else None)
        assert set(told) == {digest}
        push_blob(node, OWN, raw)
        assert whole_answer(registry, digest) == raw


def test_a_right_blob_is_hashed_once_and_ranges_of_it_are_whole(node: Node) -> None:
    raw = os.urandom(3 * MIB)
    digest, told = push_blob(node, OWN, raw), []
    node.store.verified = VerifiedFiles()  # as after a restart
    with served_node(node, told.append) as registry:
        assert whole_answer(registry, digest, Range="bytes=7-2000000") == raw[7:2_000_001]
        assert node.store.is_fresh(digest)
        assert whole_answer(registry, digest) == raw
    assert told == []


def test_a_blob_whose_reader_is_slower_than_its_verification_holds_is_whole(node: Node) -> None:
    raw = os.urandom(3 * MIB)
    digest, told = push_blob(node, OWN, raw), []
    node.store.verified = VerifiedFiles(0.0)  # nothing verified is fresh, not even just now
    with served_node(node, told.append) as registry:
        assert whole_answer(registry, digest) == raw
        flip(node.store.path(digest))
        assert whole_answer(registry, digest) is None
    assert told == [digest]


def test_a_wrong_document_of_the_catalog_is_not_served(node: Node) -> None:
    image, told = random_image(1), []
    push_image(node, OWN, image, "1")
    with node.catalog._transactions.begin("damage") as db:
        db.execute("UPDATE document SET raw = CAST(replace(raw, 'schema', 'Schema') AS BLOB)")
        node.catalog._transactions.count_change(db)
    with served_node(node, told.append) as registry:
        assert registry.ask("/v2/team/app/manifests/1").status == 500
        assert told == [image.digest]
        size = node.catalog.blob_size(image.digest) or 0
        node.scrub.look(image.digest, size, lambda _count: None, repair=True)
        assert registry.ask("/v2/team/app/manifests/1").body == image.manifest.raw


def test_a_damaged_blob_is_reported_and_never_linked_into_containerd(
    node: Node, tmp_path: Path
) -> None:
    layer = random_image(1).layers[0]
    push_blob(node, OWN, layer.raw)
    flip(node.store.path(layer.digest))
    directory = ContentDirectory(tmp_path / "content", node.store, "test")
    nothing: Any = None
    adopter = Adopter(nothing, node.store, nothing, directory, "test")
    blob = LabelledBlob(Descriptor(layer.media_type, layer.digest, layer.size_bytes), {})
    with pytest.raises(StoreError, match=str(layer.digest)):
        adopter._link_all([blob], directory)
    assert not (tmp_path / "content").exists()
    assert node.store.suspects.take() == {layer.digest}


def test_a_client_that_goes_while_its_blob_is_hashed_is_no_error(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "airside.registry")
    raw = os.urandom(3 * MIB)
    digest, gone = push_blob(node, OWN, raw), Event()
    node.store.verified = VerifiedFiles()  # as after a restart
    is_right = node.store.is_right

    def hash_later(asked: Digest) -> bool:
        gone.wait(LIMIT_SECONDS)
        return is_right(asked)

    monkeypatch.setattr(node.store, "is_right", hash_later)
    with served_node(node) as registry:
        with closing(http.client.HTTPConnection(registry.address)) as link:
            link.request("GET", f"/v2/team/app/blobs/{digest}")
            assert link.getresponse().read(3 * MIB - 1) == raw[:-1]
        assert registry.ask("/v2/").status == 200  # so the loop has seen the client go
        gone.set()
        wait_until(lambda: f"{digest} to 127.0.0.1 ended early" in caplog.text)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_stop_ends_the_hashing_of_a_large_blob_and_blames_nothing(node: Node) -> None:
    large, small = os.urandom(9 * MIB), b"small"
    node.store.commit([node.store.put(raw) for raw in (large, small)])
    node.store.verified = VerifiedFiles()  # as after a start
    node.store.verified.stop()
    with pytest.raises(StoppedError):
        node.store.is_right(digest_of(large))
    assert node.store.is_right(digest_of(small))
    reported: list[Digest] = []

    async def send() -> None:
        with ThreadPoolExecutor(1) as pool, node.store.open(digest_of(large)) as file:
            guard = BlobGuard(node.store, lambda _: None, reported.append, pool)
            with pytest.raises(ConnectionResetError, match="shutting down"):
                await guard.watch(digest_of(large), file, len(large)).reach(len(large) - 1)

    asyncio.run(send())
    assert reported == []


@pytest.mark.parametrize("number", [errno.EIO, 0])
def test_a_read_that_fails_under_way_cuts_the_answer_and_is_reported(
    number: int, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = os.urandom(3 * MIB)
    digest, told = push_blob(node, OWN, raw), []

    async def fail(*_: object) -> int:
        if number:
            raise OSError(number, "the disk")
        return 0

    with served_node(node, told.append) as registry:
        monkeypatch.setattr(blob_response, "_sendfile", fail)
        assert whole_answer(registry, digest) is None
        wait_until(lambda: told == [digest])
