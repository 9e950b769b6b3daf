"""Threads beside the hashing thread: one reads ahead, one writes behind, where a core is idle."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, Self

from airside.archive.stop import Stop
from airside.core.errors import StoppedError
from airside.oci.digest import BytesLike
from airside.ports.content import Ingest

_READ_AHEAD = 2
_WRITE_BEHIND = 3
"""Chunks of 1 MiB: eight archives at once have 160 MB for everything."""


class ReadAhead:
    """Iterates over chunks a few chunks ahead, in a thread of its own.

    Errors of the source, and StoppedError, are raised in the thread that iterates.
    """

    def __init__(self, chunks: Iterable[bytes], stop: Stop) -> None:
        self._chunks, self._stop = chunks, stop
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_READ_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=0.05)
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                if self._closed.is_set():
                    return
                if self._stop():
                    raise StoppedError("the import was stopped")  # noqa: TRY301 - ends this thread
                self._queue.put(chunk)
        except BaseException as exc:  # noqa: BLE001 - carried to the thread that iterates
            self._queue.put(exc)
        else:
            self._queue.put(None)


class Writes(Protocol):
    """Writes chunks into their ingests, of each in order."""

    def write(self, ingest: Ingest, chunk: BytesLike) -> None:
        """Write a chunk, or queue it. Raises the error of this or of an earlier write."""

    def finish(self, ingest: Ingest) -> None:
        """End an ingest once its chunks are written."""

    def after(self, call: Callable[[], None]) -> None:
        """Make a call once all chunks before it are written without an error."""

    def flush(self) -> None:
        """Wait until all chunks are written. Raises the error of an earlier write."""

    def abandon(self) -> None:
        """Discard the writes that are queued, and wait until none is left."""


class WriteAlong:
    """Writes a member in the thread that hashes it, as long as every thread has a member.

    Once a thread has none, the rest of this one is written behind: so no chunk goes from one
    processor to another without need, and a large last member keeps two of them busy.
    `has_idle` tells that a thread has nothing to do. Not thread-safe.
    """

    def __init__(self, behind: "WriteBehind", has_idle: Callable[[], bool]) -> None:
        self._behind, self._has_idle = behind, has_idle
        self._is_behind = False

    def write(self, ingest: Ingest, chunk: BytesLike) -> None:
        self._is_behind = self._is_behind or self._has_idle()
        if self._is_behind:
            self._behind.write(ingest, chunk)
        else:
            ingest.write(chunk)

    def finish(self, ingest: Ingest) -> None:
        if self._is_behind:
            self._behind.finish(ingest)
        else:
            ingest.finish()

    def after(self, call: Callable[[], None]) -> None:
        if self._is_behind:
            self._behind.after(call)
        else:
            call()

    def flush(self) -> None:
        self._behind.flush()

    def abandon(self) -> None:
        self._behind.abandon()


class WriteBehind:
    """Writes chunks into their ingests in a thread of its own, in order, a few chunks behind."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Ingest, BytesLike | None] | Callable[[], None] | None] = (
            queue.Queue(_WRITE_BEHIND)
        )
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abandoned = True
        self._queue.put(None)
        self._thread.join()

    def write(self, ingest: Ingest, chunk: BytesLike) -> None:
        """Queue a chunk. Raises the error of an earlier write."""
        self._raise()
        self._queue.put((ingest, chunk))

    def finish(self, ingest: Ingest) -> None:
        """Queue the end of an ingest."""
        self._raise()
        self._queue.put((ingest, None))

    def after(self, call: Callable[[], None]) -> None:
        """Queue a call, which is made when what was queued before is written without an error."""
        self._raise()
        self._queue.put(call)

    def flush(self) -> None:
        """Wait until all queued chunks are written. Raises the error of an earlier write."""
        self._queue.join()
        self._raise()

    def abandon(self) -> None:
        """Discard the queued writes, and wait until the queue is empty."""
        self._abandoned = True
        self._queue.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None and not self._abandoned:
                    _do(item)
            except BaseException as exc:  # noqa: BLE001 - carried to the thread that hashes
                self._error = exc
            finally:
                self._queue.task_done()


def _do(item: tuple[Ingest, BytesLike | None] | Callable[[], None]) -> None:
    if not isinstance(item, tuple):
        item()
        return
    ingest, chunk = item
    if chunk is None:
        ingest.finish()
    else:
        ingest.write(chunk)
