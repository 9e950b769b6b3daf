"""What clients have sent, made durable: those who arrive at once share the syncs and the commit.

One thread at a time works for all who wait: blobs and manifests into the store, then one catalog
transaction, then each is told. So many small pushes cost few syncs, and none is acknowledged before
it is on disk. One that may not be recorded fails alone; what the disk refuses fails all.
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
"""As many are taken together: each waits for all of them."""


@dataclass(slots=True)
class _Waiting:
    """One that arrived. `ingest`: the blob's bytes; a manifest brings its own."""

    item: Push | PushedBlob
    ingest: Ingest | None
    is_done: bool = False
    error: BaseException | None = None


@dataclass(slots=True)
class GroupCommit:
    """Takes verified blobs and parsed manifests in. Blocking; safe to call from any thread."""

    store: LocalStore
    catalog: Catalog
    guard: StoreLock
    clock: Callable[[], float]
    _queue: deque[_Waiting] = field(default_factory=deque)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def waiting(self) -> int:
        """How many have to wait for those that are worked for."""
        return len(self._queue)

    @property
    def is_working(self) -> bool:
        return self._turn.locked()

    def commit(self, item: Push | PushedBlob, ingest: Ingest | None = None) -> None:
        """Make it durable and record it; the ingest is committed or discarded.

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
            with self.guard.shared():
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
        """No bytes are kept of a manifest that can't be recorded."""
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
                    if self.store.stat(document.digest) is None:
                        made = self.store.put(document.raw, document.digest.algorithm)
                        stack.callback(made.discard)
                        ingests.append(made)
            fault("push.before_commit")
            self.store.commit(ingests)
            fault("push.after_commit")

    def _record(self, batch: Sequence[_Waiting]) -> None:
        wanted = [each for each in batch if each.error is None]
        if wanted:
            errors = self.catalog.pushes.record([each.item for each in wanted], self.clock())
            for each, error in zip(wanted, errors, strict=True):
                each.error = error
