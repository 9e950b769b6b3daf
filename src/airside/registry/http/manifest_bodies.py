"""Receives the bodies of pushed manifests. Async.

A slow client holds no memory: what exceeds `MEMORY_BYTES` of a body goes to a file without a name.
At most `MOST_FILES` of them exist. Another one takes the place of the oldest, whose client gets a
429, unless that is younger than `FAIR_SECONDS`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

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
class ManifestBody:
    """One body. `write` and `read` block; `close` it after use."""

    directory: Path
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
        """Moves what is in memory to a file that is gone once it is closed. Raises StoreError."""
        with translated("cannot write a manifest in", self.directory):
            if self._file is None:
                file = tempfile.TemporaryFile(dir=self.directory, buffering=0)  # noqa: SIM115
                self._file = cast("BinaryIO", file)
            self._file.write(self._take())

    def work_bytes(self) -> int:
        """Returns the memory that reading, parsing and recording it takes at most."""
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


class ManifestBodies:
    """Receives bodies of at most `limit_bytes`; files are made in `directory`. For one loop."""

    def __init__(self, directory: Path, pool: Executor, limit_bytes: int) -> None:
        self.directory, self._pool, self._limit_bytes = directory, pool, limit_bytes
        self._on_disk: dict[ManifestBody, asyncio.Timeout] = {}

    async def receive(self, pieces: AsyncIterator[bytes]) -> ManifestBody:
        """Raises TooLargeError, TooManyError, StoreError, and what `pieces` raises."""
        loop = asyncio.get_running_loop()
        body, limit = ManifestBody(self.directory, loop.time()), asyncio.timeout(None)
        try:
            async with limit:
                async for piece in pieces:
                    body.add(piece)
                    self._check(body)
                    if body.is_full:
                        self._make_place(body, limit)
                        await loop.run_in_executor(self._pool, body.write)
        except TimeoutError as exc:
            body.close()
            raise TooManyError(_BUSY) from exc
        except BaseException:
            body.close()
            raise
        finally:
            self._on_disk.pop(body, None)
        return body

    def _check(self, body: ManifestBody) -> None:
        if body.size_bytes > self._limit_bytes:
            raise TooLargeError(
                f"the manifest has more than {self._limit_bytes} bytes (limits.document_bytes)"
            )

    def _make_place(self, body: ManifestBody, limit: asyncio.Timeout) -> None:
        if body in self._on_disk:
            return
        if len(self._on_disk) >= MOST_FILES:
            now = asyncio.get_running_loop().time()
            oldest = min(self._on_disk, key=lambda each: each.begun_at)
            if now - oldest.begun_at < FAIR_SECONDS:
                raise TooManyError(_BUSY)
            self._on_disk.pop(oldest).reschedule(now)
        self._on_disk[body] = limit
