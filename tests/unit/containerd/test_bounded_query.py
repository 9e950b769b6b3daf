from functools import partial
from types import SimpleNamespace

import pytest

from airside.containerd.bounded_query import BoundedQuery, DocumentCache, TargetCache, repository_of
from airside.core.errors import ContainerdError
from airside.core.settings import Limits
from airside.oci.digest import Digest, digest_of
from airside.oci.model import parse_bare_document
from airside.oci.reference import Repository
from support.images import random_image


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("docker.io/library/app:1", "docker.io/library/app"),
        ("docker.io/library/app@sha256:0", "docker.io/library/app"),
        ("docker.io/library/app:1@sha256:0", "docker.io/library/app"),
        ("registry.example:5000/app", "registry.example:5000/app"),
        ("registry.example:5000/app:1", "registry.example:5000/app"),
        ("sha256:0", "sha256"),
        ("", ""),
    ],
)
def test_the_repository_of_a_name(name, repository):
    assert repository_of(name) == repository


def test_remembered_documents_are_bounded_and_the_least_used_goes_first():
    images = [random_image(n) for n in range(20)]
    parsed = [parse_bare_document(image.manifest.raw, "test") for image in images]
    size = max(document.size_bytes for document in parsed)
    documents = DocumentCache(size * 8)
    for document in parsed:
        documents.put(document.digest, document)
        assert documents.get(parsed[0].digest) is parsed[0]
    kept = [document for document in parsed if documents.get(document.digest)]
    assert 7 <= len(kept) <= 9
    assert parsed[-1] in kept
    small = DocumentCache(size)
    small.put(parsed[0].digest, parsed[0])  # larger than a quarter of it all
    assert small.get(parsed[0].digest) is None


class _Slow:
    """A client whose calls each take `seconds`."""

    def __init__(self, seconds):
        self.now, self.seconds, self.calls = 0.0, seconds, 0
        self.images = SimpleNamespace(get=self.answer, list=partial(self.answer, ""))
        self.content = SimpleNamespace(info=self.answer)

    def clock(self):
        return self.now

    def answer(self, _asked, *, seconds):
        self.calls += 1
        self.now += min(self.seconds, seconds)
        if self.seconds >= seconds:
            raise ContainerdError("late", status="DEADLINE_EXCEEDED")


def _query(client):
    targets = TargetCache(client.clock)
    return BoundedQuery(client, None, Limits(), DocumentCache(), targets, client.clock, 0.4)


def test_a_call_that_uses_up_the_patience_hung():
    query = _query(_Slow(10.0))
    with pytest.raises(ContainerdError):
        query.image("a")
    assert query.hung


def test_many_calls_that_use_it_up_together_did_not_hang_and_no_more_are_made():
    client = _Slow(0.15)
    query = _query(client)
    query.info(digest_of(b"1"))
    query.info(digest_of(b"2"))
    with pytest.raises(ContainerdError):
        query.info(digest_of(b"3"))
    assert not query.hung
    assert client.calls == 3
    with pytest.raises(ContainerdError):
        query.image("a")
    assert client.calls == 3
    assert client.now == pytest.approx(0.4)


def test_a_list_that_takes_long_is_long_and_does_not_hang():
    client = _Slow(10.0)
    query = _query(client)
    query._infos[digest_of(b"x")] = None
    with pytest.raises(ContainerdError):
        query.belongs(Repository("docker.io", "library/app"), digest_of(b"x"))
    assert not query.hung


def test_what_is_no_digest_that_we_know_is_not_asked_for():
    client = _Slow(0.0)
    assert _query(client).info(Digest("md5", "00")) is None
    assert client.calls == 0
