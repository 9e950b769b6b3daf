"""What every `airside.ports.content.ContentStore` does."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airside.core.errors import NotFoundError, SizeMismatchError
from airside.oci.digest import Digest, digest_of
from airside.oci.model import Descriptor
from airside.ports.content import ContentStore, Ingest
from airside.store.local import LocalStore
from support.memory import MemoryStore


def _local(directory: Path) -> ContentStore:
    store = LocalStore(directory / "oci", directory / "ingest")
    store.prepare()
    return store


def _memory(_directory: Path) -> ContentStore:
    return MemoryStore()


@pytest.fixture(params=[_local, _memory], ids=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ContentStore:
    made: ContentStore = request.param(tmp_path)
    return made


def _written(store: ContentStore, data: bytes, algorithm: str = "sha256") -> Ingest:
    ingest = store.ingest(algorithm)
    ingest.hash(data)
    ingest.write(data)
    ingest.finish()
    return ingest


def _put(store: ContentStore, data: bytes) -> Digest:
    store.commit([_written(store, data)])
    return digest_of(data)


def _read(store: ContentStore, digest: Digest) -> bytes:
    with store.open(digest) as file:
        return file.read()


def test_what_is_not_held_has_no_size_and_cannot_be_opened(store: ContentStore) -> None:
    absent = digest_of(b"absent")
    assert store.stat(absent) is None
    assert store.delete(absent) == 0
    assert list(store.digests()) == []
    with pytest.raises(NotFoundError) as caught:
        store.open(absent)
    assert caught.value.context["blob"] == str(absent)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"blob", bytes(3_000_000)])
def test_a_committed_blob_is_held_under_its_digest(
    data: bytes, algorithm: str, store: ContentStore
) -> None:
    ingest = _written(store, data, algorithm)
    digest = Digest(algorithm, hashlib.new(algorithm, data).hexdigest())
    assert (ingest.digest, ingest.size_bytes) == (digest, len(data))
    assert store.commit([ingest]) == 1
    assert store.stat(digest) == len(data)
    assert _read(store, digest) == data
    assert list(store.digests()) == [digest]


def test_only_what_is_held_is_right(store: ContentStore) -> None:
    assert store.is_right(_put(store, b"held"))
    assert not store.is_right(digest_of(b"absent"))


def test_nothing_is_visible_before_the_commit(store: ContentStore) -> None:
    ingest = _written(store, b"blob")
    assert store.stat(ingest.digest) is None
    assert list(store.digests()) == []
    with ingest.open() as file:
        assert file.read() == b"blob"
    ingest.discard()


def test_a_discarded_ingest_leaves_nothing(store: ContentStore) -> None:
    ingest = _written(store, b"blob")
    ingest.discard()
    ingest.discard()
    assert list(store.digests()) == []


def test_discarding_after_the_commit_keeps_the_blob(store: ContentStore) -> None:
    ingest = _written(store, b"blob")
    store.commit([ingest])
    ingest.discard()
    assert _read(store, digest_of(b"blob")) == b"blob"


def test_finish_may_be_called_again_or_left_to_the_commit(store: ContentStore) -> None:
    twice = _written(store, b"twice")
    twice.finish()
    never = store.ingest()
    never.hash(b"never")
    never.write(b"never")
    assert store.commit([twice, never]) == 2


def test_a_commit_counts_what_is_new(store: ContentStore) -> None:
    _put(store, b"held")
    ingests = [_written(store, data) for data in (b"held", b"new", b"new", b"other")]
    assert store.commit(ingests) == 2
    assert set(store.digests()) == {digest_of(d) for d in (b"held", b"new", b"other")}
    assert store.commit([]) == 0


@pytest.mark.parametrize("written", [b"", b"shor", b"longer than hashed"])
def test_nothing_is_committed_if_one_was_written_otherwise_than_hashed(
    written: bytes, store: ContentStore
) -> None:
    good, bad = _written(store, b"good"), store.ingest()
    bad.hash(b"short")
    bad.write(written)
    with pytest.raises(SizeMismatchError):
        store.commit([good, bad])
    assert list(store.digests()) == []


def test_a_deleted_blob_is_gone_and_may_come_back(store: ContentStore) -> None:
    digest = _put(store, b"blob")
    assert store.delete(digest) == 4
    assert store.stat(digest) is None
    assert store.delete(digest) == 0
    assert _put(store, b"blob") == digest
    assert _read(store, digest) == b"blob"


def test_an_open_blob_can_be_read_to_its_end_after_its_deletion(store: ContentStore) -> None:
    digest = _put(store, b"blob")
    with store.open(digest) as file:
        store.delete(digest)
        assert file.read() == b"blob"


def test_missing_tells_what_is_absent_or_of_another_size_in_order(store: ContentStore) -> None:
    held = Descriptor("x/y", _put(store, b"held"), 4)
    wrong_size = Descriptor("x/y", held.digest, 5)
    absent = Descriptor("x/y", digest_of(b"absent"), 6)
    assert store.missing([absent, held, wrong_size]) == [absent, wrong_size]
    assert store.missing([]) == []


def test_hash_and_write_may_be_called_from_two_threads(store: ContentStore) -> None:
    chunks = [bytes([number]) * 70_000 for number in range(40)]
    ingest = store.ingest()
    writer = threading.Thread(target=lambda: [ingest.write(chunk) for chunk in chunks])
    writer.start()
    for chunk in chunks:
        ingest.hash(chunk)
    writer.join()
    ingest.finish()
    store.commit([ingest])
    assert _read(store, digest_of(b"".join(chunks))) == b"".join(chunks)


def test_many_threads_commit_the_same_blobs_once(store: ContentStore) -> None:
    blobs = [f"blob {number}".encode() for number in range(10)]
    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(
            lambda _: store.commit([_written(store, data) for data in blobs]), range(16)
        )
        list(counts)
    assert set(store.digests()) == set(map(digest_of, blobs))
    assert [_read(store, digest_of(data)) for data in blobs] == blobs


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=200), max_size=8), cut=st.integers(0, 8))
def test_any_chunking_gives_the_same_blob(
    pieces: list[bytes], cut: int, store: ContentStore
) -> None:
    data = b"".join(pieces)
    ingest = store.ingest()
    for piece in [*pieces[:cut], b"".join(pieces[cut:])]:
        ingest.hash(memoryview(piece))
        ingest.write(bytearray(piece))
    store.commit([ingest])
    assert _read(store, digest_of(data)) == data
