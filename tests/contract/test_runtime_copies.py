"""Every source of a runtime's own copies: that of the tests, and that of containerd."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airside.containerd.adopt import Adopter
from airside.containerd.blob_copies import ContainerdCopies
from airside.containerd.client import Client
from airside.containerd.content_directory import ContentDirectory
from airside.core.errors import UnavailableError
from airside.oci.digest import Digest, digest_of
from airside.ports.content import RuntimeCopies
from airside.store.local import LocalStore
from support.copies import DirectoryCopies
from support.runtimes import FakeContainerd, Held

RAW = b"the bytes of a blob" * 1000
DIGEST = digest_of(RAW)


class NoIntents:
    """Nothing is linked that was not there before."""

    def record(self, _targets: object) -> None: ...
    def clear(self, _targets: object) -> None: ...
    def left(self) -> list[tuple[str, str]]:
        return []


@dataclass
class Made:
    """Copies, where the runtime has its files, and a store that has the blob right."""

    copies: RuntimeCopies
    store: LocalStore
    held: Held | None
    directory: Path

    def path(self) -> Path:
        if self.held is None:
            return self.directory / DIGEST.hex
        return self.directory / "blobs/sha256" / DIGEST.hex

    def put(self, raw: bytes) -> None:
        """A file of the runtime's own, whose bytes may be wrong."""
        if self.held is not None:
            self.held.blobs[DIGEST] = raw
            self.held.labels[DIGEST] = {}
        self.path().write_bytes(raw)

    def link(self) -> None:
        self.put(b"")
        self.path().unlink()
        os.link(self.store.path(DIGEST), self.path())


@pytest.fixture(params=["of the tests", "of containerd"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    store = LocalStore(tmp_path / "oci", tmp_path / "ingest")
    store.prepare()
    store.commit([store.put(RAW)])
    directory = tmp_path / "content"
    if request.param == "of the tests":
        yield Made(DirectoryCopies(directory, store), store, None, directory)
        return
    held = Held()
    fake = FakeContainerd(held, tmp_path / "s", directory)
    fake.write_blobs()
    with fake.serving(), Client.open(str(tmp_path / "s"), "k8s.io") as client:
        content = ContentDirectory(directory, store, "airside-test")
        adopter = Adopter(client, store, NoIntents(), content, "airside-test")
        adopter.why_streamed = ""
        copies = ContainerdCopies(client, directory, adopter, threading.Lock())
        yield Made(copies, store, held, directory)


def read(copies: RuntimeCopies, digest: Digest = DIGEST) -> bytes | None:
    found = copies.copy(digest)
    if found is None:
        return None
    with found.open() as file:
        raw = file.read()
    assert found.size_bytes == len(raw)
    return raw


def test_a_copy_is_read_whatever_its_bytes_are(made: Made) -> None:
    assert made.copies.runtime
    assert read(made.copies) is None
    made.put(RAW)
    assert read(made.copies) == RAW
    made.put(b"wrong")
    assert read(made.copies) == b"wrong"


def test_what_is_right_or_absent_stays_as_it_is(made: Made) -> None:
    assert made.copies.mend(DIGEST) == "absent"
    made.put(RAW)
    before = made.path().stat()
    assert made.copies.mend(DIGEST) == "right"
    assert made.path().stat().st_ino == before.st_ino
    made.link()
    assert made.copies.mend(DIGEST) == "right"


@pytest.mark.parametrize("wrong", [b"", RAW[:-1], b"x" + RAW[1:]], ids=["empty", "short", "bits"])
def test_a_wrong_file_is_replaced_by_ours(wrong: bytes, made: Made) -> None:
    made.put(wrong)
    assert made.copies.mend(DIGEST) == "replaced"
    assert made.path().samefile(made.store.path(DIGEST))
    assert read(made.copies) == RAW
    assert {p.name for p in made.path().parent.iterdir()} == {DIGEST.hex}
    assert made.copies.mend(DIGEST) == "right"


def test_a_file_that_is_not_ours_to_replace_is_told(tmp_path: Path) -> None:
    """Of containerd alone: the proof has failed, or its directory can't be seen here."""
    store = LocalStore(tmp_path / "oci", tmp_path / "ingest")
    store.prepare()
    store.commit([store.put(RAW)])
    held = Held()
    held.add(RAW)
    fake = FakeContainerd(held, tmp_path / "s")
    with fake.serving(), Client.open(str(tmp_path / "s"), "k8s.io") as client:
        content = ContentDirectory(tmp_path / "nowhere", store, "airside-test")
        adopter = Adopter(client, store, NoIntents(), content, "airside-test")
        for root in (None, tmp_path / "nowhere"):
            copies = ContainerdCopies(client, root, adopter, threading.Lock())
            held.blobs[DIGEST] = RAW
            assert (read(copies), copies.mend(DIGEST)) == (RAW, "right")
            held.blobs[DIGEST] = b"x" + RAW[1:]
            assert copies.mend(DIGEST) == "wrong"
    with pytest.raises(UnavailableError):
        copies.copy(DIGEST)
