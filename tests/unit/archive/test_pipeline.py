"""Writes along with the hashing thread, or behind it where a thread is idle."""

import threading

import pytest

from airside.archive.pipeline import WriteAlong, WriteBehind
from airside.core.errors import StoreError
from airside.oci.digest import BytesLike, Digest, digest_of


class _Ingest:
    """Remembers what was written, and by which threads."""

    def __init__(self, fail_at: int = -1) -> None:
        self.written = b""
        self.threads: list[str] = []
        self.finished = False
        self._fail_at = fail_at

    def hash(self, chunk: BytesLike) -> None: ...

    def write(self, chunk: BytesLike) -> None:
        if len(self.threads) == self._fail_at:
            raise StoreError("the disk fails")
        self.written += chunk
        self.threads.append(threading.current_thread().name)

    def finish(self) -> None:
        self.finished = True

    @property
    def digest(self) -> Digest:
        return digest_of(self.written)

    @property
    def size_bytes(self) -> int:
        return len(self.written)

    def open(self) -> None:  # type: ignore[override]
        raise NotImplementedError

    def discard(self) -> None: ...


def _write(writer: WriteAlong, ingest: _Ingest, chunks: list[bytes]) -> None:
    for chunk in chunks:
        writer.write(ingest, chunk)  # type: ignore[arg-type]
    writer.finish(ingest)  # type: ignore[arg-type]
    writer.flush()


def test_a_member_is_written_by_its_own_thread_while_all_have_one() -> None:
    ingest = _Ingest()
    with WriteBehind() as behind:
        _write(WriteAlong(behind, lambda: False), ingest, [b"a", b"b"])
        assert ingest.finished
        assert set(ingest.threads) == {threading.current_thread().name}


def test_the_rest_of_a_member_is_written_behind_once_a_thread_is_idle() -> None:
    ingest, idle, told = _Ingest(), iter([False, True, False, False]), []
    with WriteBehind() as behind:
        writer = WriteAlong(behind, lambda: next(idle))
        _write(writer, ingest, [b"a", b"b", b"c", b"d"])
        writer.after(lambda: told.append(ingest.written))
        behind.flush()
    assert told == [b"abcd"]
    assert ingest.finished
    own = threading.current_thread().name
    assert [name == own for name in ingest.threads] == [True, False, False, False]


@pytest.mark.parametrize("is_idle", [False, True])
def test_a_write_that_fails_is_told_to_the_thread_that_hashes(is_idle: bool) -> None:  # noqa: FBT001
    ingest = _Ingest(fail_at=1)
    with pytest.raises(StoreError), WriteBehind() as behind:
        _write(WriteAlong(behind, lambda: is_idle), ingest, [b"a", b"b", b"c"])
    assert ingest.written == b"a"
    assert not ingest.finished
