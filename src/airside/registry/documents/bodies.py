"""Receives the bodies of manifests, and of lists from upstream registries. Async.

A slow sender holds no memory: what exceeds `MEMORY_BYTES` of a body goes to a file without a name,
within `min_free_bytes`. A number of them exists at most, those that wait to be parsed included.
Another one takes the place of the oldest that is still received, which is refused, unless
that is younger than `FAIR_SECONDS`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from airside.core.disk_space import DiskSpace
from airside.core.errors import TooLargeError, TooManyError
from airside.core.settings import KIB
from airside.oci.strict_json import ParsedCost
from airside.store.filesystem import translated

MEMORY_BYTES = 64 * KIB
"""The largest body in memory, and the most that is received ahead of a file."""
MOST_FILES = 64
FAIR_SECONDS = 2.0
"""Time in which a body of the largest size arrives over any network of a node."""
_BUSY = "the registry receives other large manifests: send it again"


@dataclass(slots=True, eq=False)
class DocumentBody:
    """One body. `write` and `read` block; `close` it after use."""

    directory: Path
    space: DiskSpace
    begun_at: float
    size_bytes: int = 0
    _cost: ParsedCost = field(default_factory=ParsedCost)
    _pending: list[bytes] = field(default_factory=list)
    _pending_bytes: int = 0
    _file: BinaryIO | None = None

    @property
    def is_full(self) -> bool:
        """True if what was received must be written before more is received."""
        return self._pending_bytes > MEMORY_BYTES

    def add(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        self._pending.append(piece)
        self._pending_bytes += len(piece)

    def write(self) -> None:
        """Moves what is in memory to a file that is gone once it is closed.

        Raises StorageFullError, StoreError.
        """
        with (
            self.space.writing(self.directory, self._pending_bytes),
            translated("cannot write a manifest in", self.directory),
        ):
            if self._file is None:
                file = tempfile.TemporaryFile(dir=self.directory, buffering=0)  # noqa: SIM115
                self._file = cast("BinaryIO", file)
            left = memoryview(self._take())
            while left:  # a disk that becomes full takes a part
                left = left[self._file.write(left) :]

    def work_bytes(self) -> int:
        """Returns the memory that reading, parsing and recording it takes at most."""
        if self._pending_bytes:
            self._pending = [self._take()]
        return 2 * self.size_bytes + self._cost.parsed_bytes

    def _take(self) -> bytes:
        """Returns and forgets what is in memory; counts it, which takes longer than receiving."""
        taken = b"".join(self._pending)
        self._cost.add(taken)
        self._pending.clear()
        self._pending_bytes = 0
        return taken

    def read(self) -> bytes:
        """Returns all bytes. Raises StoreError."""
        if self._file is None:
            return b"".join(self._pending)
        with translated("cannot read a manifest in", self.directory):
            self._file.seek(0)
            return self._file.read() + b"".join(self._pending)

    def close(self) -> None:
        self._pending.clear()
        if self._file is not None:
            self._file.close()


class DocumentBodies:
    """Receives bodies of at most `limit_bytes`; files are made in `directory`. For one loop."""

    def __init__(
        self,
        directory: Path,
        pool: Executor,
        limit_bytes: int,
        space: DiskSpace,
        most_files: int = MOST_FILES,
    ) -> None:
        self.directory, self.space = directory, space
        self._pool, self._limit_bytes, self._most_files = pool, limit_bytes, most_files
        self._on_disk: set[DocumentBody] = set()
        self._receiving: dict[DocumentBody, asyncio.Timeout] = {}
        """Those on disk that are not received to their end."""

    @asynccontextmanager
    async def received(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[DocumentBody]:
        """As `receive`; closes the body at the end of the context."""
        body = await self.receive(pieces)
        try:
            yield body
        finally:
            self.close(body)

    async def receive(self, pieces: AsyncIterator[bytes]) -> DocumentBody:
        """Receives a body; the caller closes it.

        Raises TooLargeError, TooManyError, StoreError, and what `pieces` raises.
        """
        body = DocumentBody(self.directory, self.space, asyncio.get_running_loop().time())
        try:
            await self._receive(body, pieces)
        except BaseException:
            self.close(body)
            raise
        return body

    def close(self, body: DocumentBody) -> None:
        """Gives the place of a received body to others."""
        self._on_disk.discard(body)
        body.close()

    async def _receive(self, body: DocumentBody, pieces: AsyncIterator[bytes]) -> None:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                async for piece in pieces:
                    body.add(piece)
                    self._check(body)
                    if body.is_full:
                        self._make_place(body, limit)
                        await self._write(body)
        except TimeoutError as exc:
            raise TooManyError(_BUSY) from exc
        finally:
            self._receiving.pop(body, None)

    async def _write(self, body: DocumentBody) -> None:
        """Writes what was received. If cancelled, ends after the thread: it has the file open."""
        writing = asyncio.get_running_loop().run_in_executor(self._pool, body.write)
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise

    def _check(self, body: DocumentBody) -> None:
        if body.size_bytes > self._limit_bytes:
            raise TooLargeError(
                f"the manifest has more than {self._limit_bytes} bytes (limits.document_bytes)"
            )

    def _make_place(self, body: DocumentBody, limit: asyncio.Timeout) -> None:
        if body in self._on_disk:
            return
        if len(self._on_disk) >= self._most_files:
            now = asyncio.get_running_loop().time()
            oldest = min(self._receiving, key=lambda each: each.begun_at, default=None)
            if oldest is None or now - oldest.begun_at < FAIR_SECONDS:
                raise TooManyError(_BUSY)
            self._on_disk.discard(oldest)
            self._receiving.pop(oldest).reschedule(now)
        self._on_disk.add(body)
        self._receiving[body] = limit
