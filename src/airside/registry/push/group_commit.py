"""Stores pushed blobs and manifests: concurrent pushes share the syncs and the transaction.

One thread at a time works for all waiting ones: it writes their blobs and manifests to the store,
commits one catalog transaction, then wakes them. So many small pushes cost few syncs, and none is
acknowledged before it is on disk. A push that must not be recorded fails alone; an error of the
disk fails the whole batch.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from airside.catalog.catalog import Catalog
from airside.catalog.pushes import Push, PushedBlob
from airside.core.errors import AirsideError
from airside.core.failpoints import fault
from airside.ports.content import Ingest
from airside.store.local import LocalStore
from airside.store.lock import StoreLock

MAX_BATCH = 64
"""Limit of a batch, as each push waits for the whole batch."""


@dataclass(slots=True)
class _Waiting:
    """A waiting push. `ingest` has a blob's bytes; the bytes of a manifest are in its document."""

    item: Push | PushedBlob
    ingest: Ingest | None
    is_done: bool = False
    error: BaseException | None = None


@dataclass(slots=True)
class GroupCommit:
    """Stores verified blobs and parsed manifests in batches. Blocking; thread-safe."""

    store: LocalStore
    catalog: Catalog
    lock: StoreLock
    clock: Callable[[], float]
    _queue: deque[_Waiting] = field(default_factory=deque)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def waiting(self) -> int:
        """Number of pushes that wait for the next batch."""
        return len(self._queue)

    @property
    def is_working(self) -> bool:
        return self._turn.locked()

    def commit(self, item: Push | PushedBlob, ingest: Ingest | None = None) -> None:
        """Makes a push durable and records it; commits or discards the ingest.

        Raises MissingBlobError and SizeMismatchError for a manifest, StoreError.
        """
        waiting = _Waiting(item, ingest)
        self._queue.append(waiting)
        with self._turn:
            while not waiting.is_done:
                self._process(
                    [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
                )
        if waiting.error is not None:
            raise waiting.error

    def _process(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._check(batch)
            with self.lock.shared():
                self._store(batch)
                self._record(batch)
        except BaseException as exc:
            for each in batch:
                each.error = each.error or exc
            if not isinstance(exc, AirsideError):
                raise
        finally:
            for each in batch:
                if each.ingest is not None:
                    each.ingest.discard()
                each.is_done = True

    def _check(self, batch: Sequence[_Waiting]) -> None:
        """Sets the error of each manifest that cannot be recorded, so that it is not stored."""
        manifests = [each for each in batch if isinstance(each.item, Push)]
        pushes = [each.item for each in manifests if isinstance(each.item, Push)]
        found = self.catalog.pushes.check(pushes) if pushes else []
        for each, error in zip(manifests, found, strict=True):
            each.error = error

    def _store(self, batch: Sequence[_Waiting]) -> None:
        with contextlib.ExitStack() as stack:
            ingests = [each.ingest for each in batch if each.ingest is not None]
            for each in batch:
                if isinstance(each.item, Push) and each.error is None:
                    document = each.item.document
                    if not self.store.is_right(document.digest):
                        made = self.store.put(document.raw, document.digest.algorithm)
                        stack.callback(made.discard)
                        ingests.append(made)
            fault("push.before_commit")
            self.store.commit(ingests)
            fault("push.after_commit")

    def _record(self, batch: Sequence[_Waiting]) -> None:
        wanted = [each for each in batch if each.error is None]
        if wanted:
            items = [each.item for each in wanted]
            size = sum(len(item.document.raw) for item in items if isinstance(item, Push))
            with self.store.recording(size):
                errors = self.catalog.pushes.record(items, self.clock())
            for each, error in zip(wanted, errors, strict=True):
                each.error = error
