"""The proof that containerd adopts blobs, against a containerd that is none."""

from types import SimpleNamespace

import pytest

from airside.containerd.adoption_proof import AdoptionProof
from airside.containerd.content_directory import ContentDirectory
from airside.core.errors import ContainerdError


class Containerd:
    """Adopts a file in its directory; `collections` deletes so many files before that."""

    def __init__(self, directory, *, collections=0, is_shared=True):
        self.directory, self.collections, self.is_shared = directory, collections, is_shared
        self.adopted, self.tried = {}, set()
        nothing = lambda *_args, **_named: None  # noqa: E731 - a call without effect
        self.leases = SimpleNamespace(create=nothing, delete=nothing)
        self.content = SimpleNamespace(
            adopt=self.adopt, abort=nothing, read=self.read, delete=nothing, info=nothing
        )

    def adopt(self, _key, digest, _size, _labels, _lease):
        self.tried.add(digest)
        target = self.directory.path(digest)
        if self.collections:
            self.collections -= 1
            target.unlink()
        if not self.is_shared or not target.exists():
            raise ContainerdError("unexpected commit size 0", status="OUT_OF_RANGE")
        self.adopted[digest] = target.read_bytes()

    def read(self, digest):
        yield self.adopted[digest]


class Recorded:
    """Intents that are recorded nowhere."""

    def record(self, targets):
        del targets

    def clear(self, targets):
        del targets


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "blobs").mkdir()
    return ContentDirectory(tmp_path, None, "airside-test")


def proof(containerd, directory):
    return AdoptionProof(containerd, directory, Recorded(), "airside-test").run()


def test_a_blob_that_is_adopted_is_the_proof(directory):
    containerd = Containerd(directory)
    assert proof(containerd, directory) == ""
    assert len(containerd.tried) == 1


def test_a_collection_in_the_middle_is_no_refusal(directory):
    containerd = Containerd(directory, collections=2)
    assert proof(containerd, directory) == ""
    assert len(containerd.tried) == 3


def test_a_containerd_that_shares_nothing_is_asked_once(directory):
    containerd = Containerd(directory, is_shared=False)
    assert "content_sharing_policy" in proof(containerd, directory)
    assert len(containerd.tried) == 1
