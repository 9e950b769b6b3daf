"""Guards what is sent of the store: no blob with wrong bytes is ever a whole answer.

A file of another size than recorded is refused. A file that was not verified lately is hashed: a
small one before the answer, a large one while it is sent, and then the last byte of the answer
waits for the result. A wrong blob is reported, so that it is quarantined and repaired.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from enum import Enum
from typing import BinaryIO, Protocol

from airside.core.errors import AirsideError, StoppedError
from airside.core.settings import MIB
from airside.oci.digest import Digest

SMALL_BYTES = MIB
"""A blob up to this size is hashed before its answer begins: about a millisecond."""


class VerifyingStore(Protocol):
    """The store of the blobs: `store.local.LocalStore`, documented there."""

    def is_right(self, digest: Digest) -> bool: ...
    def is_fresh(self, digest: Digest, file: BinaryIO | None = None) -> bool: ...


class Trust(Enum):
    """What is known of a blob's file before it is sent."""

    VERIFIED = "verified lately"
    UNVERIFIED = "to be hashed while it is sent"
    WRONG = "damaged"


class BlobGuard:
    """Guards the blobs of one store. `look` may run in any thread, `watch` in the event loop's."""

    def __init__(
        self,
        store: VerifyingStore,
        recorded_size: Callable[[Digest], int | None],
        report: Callable[[Digest], None],
        pool: Executor,
        *,
        hashes: bool = True,
    ) -> None:
        """`report` gets each wrong blob, in any thread. `hashes`: False to trust all bytes."""
        self._store, self._recorded_size, self._report = store, recorded_size, report
        self._pool, self._hashes = pool, hashes
        self._running: dict[Digest, asyncio.Future[bool | None]] = {}

    def look(self, digest: Digest, size_bytes: int) -> Trust:
        """Looks at the file of a blob that is about to be sent. May block. Raises StoreError."""
        recorded = self._recorded_size(digest)
        if recorded is not None and recorded != size_bytes:
            self._report(digest)
            return Trust.WRONG
        if not self._hashes or self._store.is_fresh(digest):
            return Trust.VERIFIED
        if size_bytes > SMALL_BYTES:
            return Trust.UNVERIFIED
        if self._store.is_right(digest):
            return Trust.VERIFIED
        self._report(digest)
        return Trust.WRONG

    def report(self, digest: Digest) -> None:
        """Reports a blob or document that was found wrong elsewhere."""
        self._report(digest)

    def watch(self, digest: Digest, file: BinaryIO, end: int) -> "WatchedRead":
        """Starts to hash the blob, once for all who read it. `end`: of the part that is sent."""
        future = self._running.get(digest)
        if future is None:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._pool, self._is_right, digest)
            self._running[digest] = future
            future.add_done_callback(lambda _done: self._running.pop(digest, None))
        return WatchedRead(future, end, lambda: self._store.is_fresh(digest, file), digest)

    def _is_right(self, digest: Digest) -> bool | None:
        """Returns None if the agent stops before that is known."""
        try:
            is_right = self._store.is_right(digest)
        except StoppedError:
            return None
        except AirsideError:
            is_right = False
        if not is_right:
            self._report(digest)
        return is_right


class WatchedRead:
    """The sending of a file that is being hashed: all but its last byte may be sent at once."""

    def __init__(
        self,
        is_right: asyncio.Future[bool | None],
        end: int,
        is_same: Callable[[], bool],
        digest: Digest,
    ) -> None:
        self._is_right, self._end, self._is_same, self._digest = is_right, end, is_same, digest

    async def reach(self, offset: int) -> int:
        """Waits for bytes past `offset`. Returns the end of those that may be sent.

        Raises OSError if the blob is wrong, or if another file has its name by now;
        ConnectionResetError if the agent stops.
        """
        if offset < self._end - 1:
            return self._end - 1
        is_right = await asyncio.shield(self._is_right)
        if is_right is None:
            raise ConnectionResetError("the registry is shutting down")
        if not is_right:
            raise OSError(f"blob {self._digest} is damaged: its last byte is not sent")
        if not self._is_same():
            raise OSError(f"blob {self._digest} was replaced: its last byte is not sent")
        return self._end
